// The range picker: fields in the page's zone, sent as Unix seconds.
import { fieldText, now, unixOf } from "./times.js";

const TOO_SHORT = 300; // as SHORTEST_SECONDS in opscenter/pages/time_range.py

function fill(form) {
  form.dataset.done = "";
  form.elements.start.value = fieldText(Number(form.dataset.start));
  form.elements.end.value = fieldText(Number(form.dataset.end));
}

export function fillRanges() {
  document.querySelectorAll("form[data-range]:not([data-done])").forEach(fill);
}

/** Say at the field what is wrong with the range; return whether nothing is. */
function check(form) {
  const { start, end } = form.elements;
  const first = unixOf(start.value), last = unixOf(end.value);
  const isFuture = first * 1000 >= now();
  start.setCustomValidity(isFuture ? "This is in the future: there is no data yet." : "");
  let wrong = "";
  if (last <= first) wrong = "The end must be after the start.";
  else if (last - first < TOO_SHORT) wrong = "The shortest range is 5 minutes.";
  end.setCustomValidity(wrong);
  return form.reportValidity();
}

export function startRanges() {
  fillRanges();
  document.addEventListener("htmx:afterSwap", fillRanges);
  document.addEventListener("ops:zone", () => document.querySelectorAll("form[data-range]").forEach(fill));
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-range]");
    if (form) for (const field of [form.elements.start, form.elements.end]) field.setCustomValidity("");
  });
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-range]");
    if (!form) return;
    event.preventDefault();
    if (!check(form)) return;
    const url = new URL(location.href);
    url.searchParams.delete("range");
    for (const name of ["start", "end"]) url.searchParams.set(name, unixOf(form.elements[name].value));
    location.assign(url);
  });
}
