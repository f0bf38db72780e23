// What every page does: local times that tick, keyboard, copy buttons, menus, live updates.
import { startClock, refreshTimes } from "./times.js";
import { startKeyboard } from "./keyboard.js";
import { startLive } from "./live.js";
import { startCopy } from "./copy.js";
import { startCards } from "./cards.js";
import { startRanges } from "./ranges.js";
import { startPaper } from "./paper.js";

// The answer to a form gets the address of its page, so that a reload does not send the form again.
const better = document.querySelector("[data-replace-url]")?.dataset.replaceUrl;
if (better && better !== location.pathname) history.replaceState(null, "", better);

startClock();
startKeyboard();
startCopy();
startCards();
startRanges();
startPaper();
startLive();

// Charts are heavy: their code is loaded only on pages that have one.
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

// The chosen tab is visible, on a phone too.
function showTab() {
  for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
    const bar = tab.parentElement;
    bar.scrollLeft = tab.offsetLeft - bar.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;
  }
}
showTab();
document.addEventListener("htmx:afterSettle", showTab);

// Addresses without empty parameters: forms with [data-lean].
document.addEventListener("htmx:configRequest", (event) => {
  if (!event.detail.elt.matches("form[data-lean]")) return;
  const fields = event.detail.formData;
  for (const [name, value] of [...fields.entries()]) if (!value) fields.delete(name);
});

// A failed request is reported once, at the top of the page.
function failed(event) {
  const code = event.detail.xhr?.status;
  let box = document.getElementById("failed");
  if (!box) {
    box = document.createElement("div");
    box.id = "failed";
    box.className = "note error";
    box.setAttribute("role", "alert");
    document.getElementById("page").prepend(box);
  }
  box.textContent = code
    ? `Ops Center could not do this (HTTP ${code}). Nothing on this page has changed. Reload it to try again.`
    : "Ops Center did not answer. Nothing on this page has changed.";
}
document.addEventListener("htmx:responseError", (event) => event.detail.xhr.status !== 401 && failed(event));
document.addEventListener("htmx:sendError", failed);

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
