// What every page does: local times that tick, keyboard, copy buttons, menus, live updates.
import { startClock, refreshTimes } from "./times.js";
import { startKeyboard } from "./keyboard.js";
import { startLive } from "./live.js";
import { startCopy } from "./copy.js";
import { startCards } from "./cards.js";
import { startRanges } from "./ranges.js";

startClock();
startKeyboard();
startCopy();
startCards();
startRanges();
startLive();

// Charts are heavy: their code comes only to pages that have one.
function loadCharts(root) {
  if (root.querySelector?.("[data-chart]")) {
    import("./charts.js").then((module) => module.drawAll());
  }
}
loadCharts(document);
document.addEventListener("htmx:afterSwap", (event) => {
  refreshTimes(document);
  loadCharts(event.detail.target ?? document);
});

// Addresses without empty parameters: forms with [data-lean].
document.addEventListener("htmx:configRequest", (event) => {
  if (!event.detail.elt.matches("form[data-lean]")) return;
  const fields = event.detail.formData;
  for (const [name, value] of [...fields.entries()]) if (!value) fields.delete(name);
});

// One open menu at a time, closed by Escape and by a click elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
