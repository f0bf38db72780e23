// The fleet page: single rows change in place; nothing moves until the user asks for it, or until
// a minute without input.
import { readProblem } from "./centre.js";
import { refreshTimes } from "./times.js";

const SOON = 800, DATA_PAUSE = 8000, BATCH = 60, IDLE = 60000;
const pending = new Set();
const waiting = new Set(); // clusters that are not in their right place
let timer = 0, due = Infinity, touched = Date.now(), busy = false;
let generation = 0; // counts lists, so that an answer about an older list is dropped

const page = () => document.getElementById("fleet");

function placesOf(id) {
  return [...page().querySelectorAll(`[data-cluster="${CSS.escape(id)}"]`)];
}

function schedule(delay) {
  const at = Date.now() + delay;
  if (at >= due) return;
  due = at;
  clearTimeout(timer);
  timer = setTimeout(flush, delay);
}

export function fleetChanged(message) {
  if (!page()) return;
  pending.add(message.cluster);
  schedule(message.what === "data" ? DATA_PAUSE * (page().dataset.complete ? 1 : 3) : SOON);
}

/** Compare the places of clusters with where the server would put them now. */
function compare(places) {
  for (const [id, place] of Object.entries(places)) {
    const shown = placesOf(id);
    const right = shown.length
      ? shown.every((element) => element.dataset.placed === place)
      : !place || (place === "ok" && !page().dataset.complete);
    if (right) waiting.delete(id);
    else waiting.add(id);
  }
  showWaiting();
}

function showWaiting() {
  const button = document.getElementById("fleet-waiting");
  if (!button) return;
  button.hidden = waiting.size === 0;
  button.textContent = waiting.size === 1 ? "Show 1 change" : `Show ${waiting.size} changes`;
}

/** Fetch the rows of changed clusters and replace those on the page; add none. */
async function flush() {
  due = Infinity;
  if (busy || !page()) return true;
  const ids = [...pending].slice(0, BATCH);
  for (const id of ids) pending.delete(id);
  const url = new URL(page().dataset.updates, location.href);
  for (const [key, value] of new URLSearchParams(location.search)) url.searchParams.append(key, value);
  url.searchParams.set("ids", ids.join(","));
  const shown = (prefix) => ids.filter((id) => document.getElementById(`${prefix}-${id}`)).join(",");
  url.searchParams.set("need", shown("need"));
  url.searchParams.set("list", shown("tile") || shown("line"));
  busy = true;
  const asked = generation;
  const headers = { "HX-Request": "true", "HX-Current-URL": location.href };
  const answer = await fetch(url, { headers }).catch(() => null);
  const text = answer?.ok ? await answer.text().catch(() => null) : null;
  busy = false;
  if (answer?.status === 401) location.assign(answer.headers.get("HX-Redirect") ?? "/");
  document.dispatchEvent(new CustomEvent("ops:fetched", { detail: { good: text !== null } }));
  if (text === null) return false; // the banner shows that the centre is away
  if (asked === generation && page()) {
    place(text);
    compare(JSON.parse(answer.headers.get("HX-Trigger"))["fleet:places"].places);
  }
  if (pending.size) schedule(SOON);
  return true;
}

function place(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  readProblem(fresh);
  const rows = [...fresh.querySelectorAll("template")].map((template) => template.content.firstElementChild);
  for (const next of [fresh.getElementById("fleet-summary"), ...rows]) {
    const old = next && document.getElementById(next.id);
    if (!old) continue;
    // A row keeps where it was placed, so that the page knows that it should move.
    if (old.dataset.placed) next.dataset.placed = old.dataset.placed;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const copy = document.importNode(next, true);
    copy.removeAttribute("hx-swap-oob");
    old.replaceWith(copy);
    htmx.process(copy);
    refreshTimes(copy);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

/** Fetch every row of the page and the totals again, told or not; false if that failed. */
export async function pollFleet() {
  if (!page()) return true;
  for (const row of page().querySelectorAll("[data-cluster]")) pending.add(row.dataset.cluster);
  let good = true;
  do {
    while (busy) await new Promise((done) => setTimeout(done, 100));
    good = await flush();
  } while (good && pending.size && page());
  return good;
}

/** Fetch the whole list again, in its right order. */
export function refreshFleet() {
  if (!page()) return;
  pending.clear();
  waiting.clear();
  generation += 1;
  const focused = document.activeElement?.id;
  const scroll = window.scrollY;
  htmx
    .ajax("GET", location.pathname + location.search, {
      source: page(),
      target: page(),
      select: "#fleet",
      swap: "outerHTML show:none",
    })
    .then(() => {
      window.scrollTo(0, scroll);
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    });
}

export function startFleet() {
  if (!page()) return;
  document.addEventListener("click", (event) => {
    if (event.target.closest("#fleet-waiting")) refreshFleet();
  });
  for (const kind of ["pointermove", "keydown", "scroll", "pointerdown"]) {
    addEventListener(kind, () => (touched = Date.now()), { passive: true });
  }
  setInterval(() => {
    if (waiting.size && Date.now() - touched > IDLE) refreshFleet();
  }, 5000);
}
