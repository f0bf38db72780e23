// Every time that a page shows is written here, in one zone: the reader's, UTC, or the cluster's.
// <time data-time> shows it, with another zone on hover; <time data-age> ticks.
// Ages count from the server's clock: a wrong clock at the reader's end changes nothing.
const serverAtLoad = Number(document.body.dataset.now || 0) * 1000;
let offset = serverAtLoad ? serverAtLoad - Date.now() : 0;

/** The current time by the server's clock, in milliseconds. */
export function now() {
  return Date.now() + offset;
}

/** Set the server's clock. `seconds`: Unix time that the server has just sent. */
export function setServerTime(seconds) {
  offset = seconds * 1000 - Date.now();
}

const FUTURE_SECONDS = 5;

/** "12 s", "5 min", "3 h 20 min": as opscenter/pages/format.py writes it. */
export function duration(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  if (left < 120) return `${left} s`;
  const minutes = Math.floor(left / 60), hours = Math.floor(left / 3600), days = Math.floor(left / 86400);
  if (minutes < 120) return `${minutes} min`;
  if (hours < 48) {
    const rest = minutes - hours * 60;
    return rest && hours < 10 ? `${hours} h ${rest} min` : `${hours} h`;
  }
  const rest = hours - days * 24;
  return rest && days < 10 ? `${days} d ${rest} h` : `${days} d`;
}

// Browsers still give some zones the names that they had long ago.
const NAMES = {
  "Asia/Calcutta": "Asia/Kolkata", "Asia/Katmandu": "Asia/Kathmandu", "Asia/Rangoon": "Asia/Yangon",
  "Asia/Saigon": "Asia/Ho_Chi_Minh", "Europe/Kiev": "Europe/Kyiv", "Etc/UTC": "UTC",
};
const mine = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const MINE = NAMES[mine] ?? mine;
const KEY = "ops-zone";
const CHOICES = ["mine", "utc", "cluster"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const QUARTER = 900_000; // clocks change at quarters of an hour only
const formats = new Map(), offsets = new Map();
let writtenOn = ""; // the day on which times were written: those of that day have no date

const known = (choice) => (CHOICES.includes(choice) ? choice : null);

/** What a store of the browser holds; null where it holds nothing, or may not be read. */
function stored(name) {
  try {
    return known(window[name].getItem(KEY));
  } catch {
    return null;
  }
}

function store(name, choice) {
  try {
    if (choice) window[name].setItem(KEY, choice);
    else window[name].removeItem(KEY);
  } catch { /* the choice then lasts as long as the page */ }
}

// A link with tz= shows its reader the sender's zone, for as long as the tab is open.
const asked = known(new URLSearchParams(location.search).get("tz"));
if (asked) store("sessionStorage", asked);
let choice = asked ?? stored("sessionStorage") ?? stored("localStorage") ?? "mine";

/** The cluster's zone; undefined where the page has none, or one that this browser does not know. */
function clusterZone() {
  const name = document.querySelector("[data-zone-choice=cluster]")?.dataset.zoneName;
  try {
    return name && new Intl.DateTimeFormat("en-GB", { timeZone: name }) && name;
  } catch {
    return undefined;
  }
}

/** The zone of all times, as IANA names it. */
export function zone() {
  if (choice === "utc") return "UTC";
  return (choice === "cluster" && clusterZone()) || MINE;
}

/** How far a zone is ahead of UTC at a moment, in milliseconds. */
function offsetAt(ms, name) {
  const quarter = Math.floor(ms / QUARTER), key = `${name} ${quarter}`;
  if (!offsets.has(key)) {
    if (!formats.has(name)) formats.set(name, new Intl.DateTimeFormat("en-GB", {
      timeZone: name, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit",
      minute: "2-digit", second: "2-digit",
    }));
    const at = {}, moment = quarter * QUARTER;
    for (const { type, value } of formats.get(name).formatToParts(moment)) at[type] = Number(value);
    offsets.set(key, Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second) - moment);
  }
  return offsets.get(key);
}

/** A moment as the zone's clocks show it: "2026-11-29T08:51:00". */
const wall = (ms, name = zone()) => new Date(ms + offsetAt(ms, name)).toISOString().slice(0, 19);

/** Unix seconds of "2026-11-29T08:51" on the zone's clocks; of two such moments the first. */
export function unixOf(text) {
  const asUtc = Date.parse(`${text}Z`), name = zone();
  const early = asUtc - offsetAt(asUtc - 86_400_000, name);
  const late = asUtc - offsetAt(asUtc + 86_400_000, name);
  const moment = [early, late].find((ms) => ms + offsetAt(ms, name) === asUtc) ?? late;
  return Math.round(moment / 1000);
}

/** "2026-11-29T08:51", for a field of date and time. */
export const fieldText = (seconds) => wall(seconds * 1000).slice(0, 16);

/** Seconds since the zone's midnight, and days since 1970-01-01 on the zone's calendar. */
export function clock(seconds) {
  const at = seconds + offsetAt(seconds * 1000, zone()) / 1000;
  const days = Math.floor(at / 86_400);
  return { days, second: at - days * 86_400 };
}

/** "08:51", "29 Nov", "Nov" and "2026" of a moment. */
export function labels(seconds) {
  const [year, month, rest] = wall(seconds * 1000).split("-");
  const name = MONTHS[month - 1];
  return { clock: rest.slice(3, 8), day: `${Number(rest.slice(0, 2))} ${name}`, month: name, year };
}

const day = (date) => wall(date.getTime()).slice(0, 10);
const minute = (date) => wall(date.getTime()).slice(11, 16);
const today = () => day(new Date(now()));

/** The time, with the date where it is not today. */
export function local(date) {
  return day(date) === today() ? wall(date.getTime()).slice(11) : `${day(date)} ${minute(date)}`;
}

/** "08:51" of today, "2026-11-20 08:51" else. */
export const minuteOf = (date) => (day(date) === today() ? "" : `${day(date)} `) + minute(date);

/** "18:00 – 19:00" of today, "2026-11-20 18:00 – 2026-11-21 19:00" else: never an end without its date. */
export function span(start, end) {
  const same = day(start) === day(end);
  const begin = same && day(end) === today() ? "" : `${day(start)} `;
  return `${begin}${minute(start)} – ${same ? "" : `${day(end)} `}${minute(end)}`;
}

/** "13:51 UTC" where another zone is shown; "" where UTC is. */
export const utcMinute = (date) => (zone() === "UTC" ? "" : `${wall(date.getTime(), "UTC").slice(11, 16)} UTC`);

/** A sentence of the server with its times ("2026-11-29 13:51 UTC") in the page's zone. */
export const localText = (text) =>
  text.replace(/(\d{4}-\d\d-\d\d) (\d\d:\d\d) UTC/g, (_, date, time) => minuteOf(new Date(`${date}T${time}Z`)));

/** The whole time in the other zone: UTC, or the reader's where UTC is shown already. */
export function elsewhere(date) {
  const name = zone() === "UTC" ? MINE : "UTC";
  return `${wall(date.getTime(), name).replace("T", " ")} ${name}`;
}

const spanOf = (element) => span(new Date(element.dataset.start * 1000), new Date(element.dataset.end * 1000));

function writeSpans(root) {
  for (const element of root.querySelectorAll("[data-span]:not([data-done])")) {
    element.textContent = spanOf(element);
    element.dataset.done = "";
  }
  for (const element of root.querySelectorAll("[data-span-title]:not([data-done])")) {
    element.dataset.text ??= element.title;
    element.title = `${spanOf(element)}: ${localText(element.dataset.text)}`;
    element.dataset.done = "";
  }
  for (const element of root.querySelectorAll("[data-local-title]:not([data-done])")) {
    element.dataset.text ??= element.title;
    element.title = localText(element.dataset.text);
    element.dataset.done = "";
  }
}

/** Update every time below `root`. */
export function refreshTimes(root) {
  writeSpans(root);
  for (const element of root.querySelectorAll("time[datetime]:not([data-done])")) {
    const date = new Date(element.dateTime);
    if ("time" in element.dataset) element.textContent = local(date);
    element.title = elsewhere(date);
    element.dataset.done = "";
  }
  for (const element of root.querySelectorAll("time[data-age]")) {
    const seconds = (now() - Date.parse(element.dateTime)) / 1000;
    // As opscenter/core/ages.py: a time in the future says nothing about how old something is.
    const ahead = seconds < -FUTURE_SECONDS;
    const text = ahead ? "in the future" : duration(seconds);
    if (element.textContent !== text) element.textContent = text;
    if (element.dataset.stale) element.classList.toggle("old", ahead || seconds > Number(element.dataset.stale));
  }
}

function showZone() {
  const name = zone();
  for (const element of document.querySelectorAll("[data-zone]")) {
    // "New York" where there is little room.
    element.textContent = element.dataset.zone === "short" ? name.split("/").at(-1).replaceAll("_", " ") : name;
  }
  for (const button of document.querySelectorAll("[data-zone-choice=mine]")) button.textContent = `Mine, ${MINE}`;
  for (const element of document.querySelectorAll("[data-other-zone]")) {
    element.hidden = MINE === "UTC" && name === "UTC";
    element.textContent = `, ${name === "UTC" ? MINE : "UTC"} on hover`;
  }
  const shown = choice === "cluster" && !clusterZone() ? "mine" : choice;
  for (const element of document.querySelectorAll("[data-zone-choice]")) {
    element.setAttribute("aria-pressed", String(element.dataset.zoneChoice === shown));
  }
  for (const button of document.querySelectorAll("[data-zone-choice=cluster]")) button.hidden = !clusterZone();
}

/** Show all times of the page in another zone; the browser keeps the choice. */
function choose(next) {
  choice = next;
  store("sessionStorage", null);
  store("localStorage", next);
  const url = new URL(location.href);
  if (url.searchParams.has("tz")) {
    url.searchParams.delete("tz");
    history.replaceState(history.state, "", url);
  }
  showZone();
  writeAgain();
  document.dispatchEvent(new CustomEvent("ops:zone"));
}

/** Write all times anew: in another zone, or because today is another day. */
function writeAgain() {
  writtenOn = today();
  for (const element of document.querySelectorAll("[data-done]")) {
    if (element.matches("time, [data-span], [data-span-title], [data-local-title]")) delete element.dataset.done;
  }
  refreshTimes(document);
}

function tick() {
  if (today() === writtenOn) refreshTimes(document);
  else writeAgain();
}

export function startClock() {
  showZone();
  writeAgain();
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zone-choice]");
    if (!button) return;
    choose(button.dataset.zoneChoice);
    const menu = button.closest("details");
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  setInterval(() => {
    if (!document.hidden) tick();
  }, 1000);
  document.addEventListener("visibilitychange", tick);
}
