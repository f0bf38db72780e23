// The banner that says what does not work at Ops Center itself: by each beat of the socket, and by
// each answer to a page that asks without one.
import { localText } from "./times.js";

const banner = () => document.getElementById("centre");

/** What does not work, in a sentence; "" while everything does. */
export const problem = () => banner()?.dataset.problem ?? "";

export function showProblem(text) {
  const box = banner();
  if (!box || box.dataset.problem === text) return;
  box.dataset.problem = text;
  box.querySelector("[data-problem-text]").textContent = localText(text);
  box.hidden = !text;
  document.dispatchEvent(new CustomEvent("ops:problem"));
}

/** Show what a freshly fetched page or part of one says of it. */
export function readProblem(fresh) {
  const next = fresh.getElementById("centre");
  if (next) showProblem(next.dataset.problem);
}
