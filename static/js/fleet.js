// The fleet page: single rows change in place; nothing moves until somebody asks for it, or until
// nobody has touched the page for a minute.
import { refreshTimes } from "./times.js";

const SOON = 800, DATA_PAUSE = 8000, BATCH = 60, IDLE = 60000;
const pending = new Set();
const waiting = new Set(); // clusters that stand in another place than they should
let timer = 0, due = Infinity, touched = Date.now(), busy = false;

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

/** Compare where clusters stand with where the server would put them now. */
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
  button.textContent = waiting.size === 1 ? "1 change, show" : `${waiting.size} changes, show`;
}

async function flush() {
  due = Infinity;
  if (busy || !page()) return;
  const ids = [...pending].slice(0, BATCH);
  for (const id of ids) pending.delete(id);
  const url = new URL(page().dataset.updates, location.href);
  for (const [key, value] of new URLSearchParams(location.search)) url.searchParams.append(key, value);
  url.searchParams.set("ids", ids.join(","));
  const shown = (prefix) => ids.filter((id) => document.getElementById(`${prefix}-${id}`)).join(",");
  url.searchParams.set("need", shown("need"));
  url.searchParams.set("list", shown("tile") || shown("line"));
  busy = true;
  try {
    await htmx.ajax("GET", url.pathname + url.search, { source: page(), target: page(), swap: "none" });
  } finally {
    busy = false;
  }
  refreshTimes(page());
  if (pending.size) schedule(SOON);
}

/** Fetch the whole list again, in its right order. */
export function refreshFleet() {
  if (!page()) return;
  pending.clear();
  waiting.clear();
  const focused = document.activeElement?.id;
  const scroll = window.scrollY;
  htmx
    .ajax("GET", location.pathname + location.search, { source: page(), target: page(), select: "#fleet", swap: "outerHTML show:none" })
    .then(() => {
      window.scrollTo(0, scroll);
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    });
}

export function startFleet() {
  if (!page()) return;
  document.addEventListener("fleet:places", (event) => compare(event.detail.places));
  // The new row keeps where the old one was placed.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const fresh = event.detail.fragment.firstElementChild ?? event.detail.fragment;
    const placed = event.detail.target.dataset?.placed;
    if (placed && fresh?.dataset) fresh.dataset.placed = placed;
  });
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
