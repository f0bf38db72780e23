// Keyboard shortcuts. Never while somebody types, never with a modifier.
const typing = (element) => element.closest("input, textarea, select, [contenteditable=true]");
let pending = "";

function move(step) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
  if (!rows.length) return;
  const here = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.min(rows.length - 1, Math.max(0, here < 0 ? 0 : here + step))];
  const link = next.querySelector("th a[href]") ?? next.querySelector("a[href]");
  link?.focus();
  next.scrollIntoView({ block: "nearest" });
}

function openRange() {
  const menu = document.querySelector("[data-range-menu]");
  if (!menu) return;
  menu.open = true;
  menu.querySelector("div :is(a, input:not([type=hidden]), button)")?.focus();
}

function openHelp() {
  document.getElementById("help")?.showModal();
}

const actions = {
  "/": () => (document.querySelector("[data-search]") ?? document.getElementById("search"))?.focus(),
  j: () => move(1),
  k: () => move(-1),
  t: openRange,
  "?": openHelp,
};
const places = { f: "/", p: "/pods/" };

export function startKeyboard() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    if (pending === "g" && places[event.key]) {
      event.preventDefault();
      location.assign(places[event.key]);
      return;
    }
    pending = event.key === "g" ? "g" : "";
    if (pending) {
      setTimeout(() => (pending = ""), 1500);
      return;
    }
    const action = actions[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-help]")) openHelp();
  });
}
