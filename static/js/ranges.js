// The range picker: fields in local time, sent as Unix seconds.
import { now } from "./times.js";

const field = (seconds) => {
  const at = new Date(seconds * 1000 - new Date(seconds * 1000).getTimezoneOffset() * 60000);
  return at.toISOString().slice(0, 16);
};

export function fillRanges() {
  for (const form of document.querySelectorAll("form[data-range]:not([data-done])")) {
    form.dataset.done = "";
    form.elements.start.value = field(Number(form.dataset.start));
    form.elements.end.value = field(Number(form.dataset.end));
    form.elements.end.max = field(now() / 1000 + 60);
  }
}

export function startRanges() {
  fillRanges();
  document.addEventListener("htmx:afterSwap", fillRanges);
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-range]");
    if (!form) return;
    event.preventDefault();
    const url = new URL(location.href);
    url.searchParams.delete("range");
    for (const name of ["start", "end"]) {
      url.searchParams.set(name, Math.round(new Date(form.elements[name].value).getTime() / 1000));
    }
    location.assign(url);
  });
}
