// <time data-time> in the reader's zone with UTC on hover; <time data-age> ticks.
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

const pad = (number) => String(number).padStart(2, "0");

const day = (date) => `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
const minute = (date) => `${pad(date.getHours())}:${pad(date.getMinutes())}`;

/** Local time, with the date where it is not today. */
export function local(date) {
  const clock = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  const today = new Date(now());
  if (date.toDateString() === today.toDateString()) return clock;
  return `${day(date)} ${minute(date)}`;
}

/** "18:00 – 19:00" of today, "2026-11-20 18:00 – 2026-11-21 19:00" else: never an end without its date. */
export function span(start, end) {
  const same = start.toDateString() === end.toDateString();
  const today = same && end.toDateString() === new Date(now()).toDateString();
  return `${today ? "" : `${day(start)} `}${minute(start)} – ${same ? "" : `${day(end)} `}${minute(end)}`;
}

const spanOf = (element) => span(new Date(element.dataset.start * 1000), new Date(element.dataset.end * 1000));

/** Update every time below `root`. */
export function refreshTimes(root) {
  for (const element of root.querySelectorAll("[data-span]:not([data-done])")) {
    element.textContent = spanOf(element);
    element.dataset.done = "";
  }
  for (const element of root.querySelectorAll("[data-span-title]:not([data-done])")) {
    element.title = `${spanOf(element)}: ${element.title}`;
    element.dataset.done = "";
  }
  for (const element of root.querySelectorAll("time[data-time]:not([data-done])")) {
    element.textContent = local(new Date(element.dateTime));
    element.dataset.done = "";
  }
  for (const element of root.querySelectorAll("time[data-age]")) {
    const seconds = (now() - Date.parse(element.dateTime)) / 1000;
    const text = duration(seconds);
    if (element.textContent !== text) element.textContent = text;
    if (element.dataset.stale) element.classList.toggle("old", seconds > Number(element.dataset.stale));
  }
}

export function startClock() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  for (const element of document.querySelectorAll("[data-zone]")) element.textContent = zone;
  for (const element of document.querySelectorAll("[data-not-utc]")) element.hidden = zone === "UTC";
  refreshTimes(document);
  setInterval(() => {
    if (!document.hidden) refreshTimes(document);
  }, 1000);
  document.addEventListener("visibilitychange", () => refreshTimes(document));
}
