// Pages about one thing: elements with [data-part] are fetched again when their cluster changes.
// A part under the pointer, or with the focus in it, waits until it is left.
import { readProblem } from "./centre.js";
import { refreshTimes } from "./times.js";

const SOON = 600, DATA_PAUSE = 3000;
const received = new WeakMap(); // part -> the HTML that the server last sent for it
let timer = 0, due = Infinity, held = false;

const parts = () => [...document.querySelectorAll("[data-part]")];
const inUse = (part) =>
  part.dataset.part === "calm" && (part.matches(":hover") || part.contains(document.activeElement));

export function partsChanged(message) {
  if (!parts().length) return;
  const delay = message.what === "data" ? DATA_PAUSE : SOON;
  const at = Date.now() + delay;
  if (at >= due) return;
  due = at;
  clearTimeout(timer);
  timer = setTimeout(refreshParts, delay);
}

/** Fetch the page's parts again; return whether the centre answered. */
export async function refreshParts() {
  due = Infinity;
  if (!parts().length) return true;
  const answer = await fetch(location.pathname + location.search, {
    headers: { "HX-Request": "true", "HX-Boosted": "true", "HX-Current-URL": location.href },
  }).catch(() => null);
  const good = Boolean(answer?.ok);
  if (answer?.status !== 401 && answer?.status !== 404) {
    document.dispatchEvent(new CustomEvent("ops:fetched", { detail: { good } }));
  }
  if (!answer) return false; // the socket's banner shows that the centre is away
  if (answer.status === 401 || answer.status === 404) {
    location.reload();
    return true;
  }
  if (!answer.ok) return false;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  readProblem(fresh);
  held = false;
  for (const part of parts()) {
    const next = fresh.getElementById(part.id);
    if (!next) continue;
    if (inUse(part)) held = true;
    else if (received.get(part) !== next.innerHTML) replace(part, next);
  }
  document.dispatchEvent(new CustomEvent("ops:refreshed"));
  return true;
}

function replace(part, next) {
  const open = [...part.querySelectorAll("details[open][id]")].map((element) => element.id);
  const copy = document.importNode(next, true);
  received.set(copy, next.innerHTML);
  part.replaceWith(copy);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  htmx.process(copy);
  refreshTimes(copy);
}

export function startParts() {
  document.addEventListener("pointerout", (event) => {
    const part = event.target.closest?.("[data-part=calm]");
    if (held && part && !part.contains(event.relatedTarget)) refreshParts();
  });
}
