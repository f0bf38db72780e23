// One cross-hair over all charts of a page: a line in each, and the values of its moment in the heads.
// The pointer moves it, and in a focused chart the arrow keys do, from bucket to bucket.
import { amount } from "./numbers.js";
import { minuteOf, span, utcMinute } from "./times.js";

const MINUTE = 60;
let charts = new Map(); // plot element -> content
let isByKey = false; // whether the keys have set it
let moment = null; // Unix seconds under the cross-hair; null: there is none

/** The value of the bucket that holds a moment; null where there is none. */
const valueAt = (values, t0, step, at) => values?.[Math.floor((at - t0) / step)] ?? null;

const hasValue = (content, at) =>
  content.series.some((series) => valueAt(series.mean, content.t0, content.step, at) !== null);

/** The last capacity that is known at a moment: it stays until it changes. */
function capacityAt(content, at) {
  const values = content.capacity.values;
  for (let i = Math.floor((at - content.t0) / content.step); i >= 0; i--) {
    if ((values[i] ?? null) !== null) return values[i];
  }
  return null;
}

function rawAt(line, at) {
  const index = line.t.findLastIndex((t) => t <= at);
  return index >= 0 && at - line.t[index] < 2 * line.step ? line.v[index] : null;
}

/** "4.70 – 4.90" around "4.79 cores": the unit once where all have the same. */
function between(low, high, mean) {
  const unit = / \D+$/.exec(mean)?.[0] ?? "";
  const isCommon = unit && low.endsWith(unit) && high.endsWith(unit);
  const [from, to] = [low, high].map((text) => (isCommon ? text.slice(0, -unit.length) : text));
  return `${from} \u2013 ${to}`;
}

/** A part of a head: {role, dash, name, text, note}. */
function partsAt(content, at) {
  const { t0, step, divisor, unit } = content;
  const written = (value) => amount(unit, value * divisor);
  const parts = [];
  for (const series of content.series) {
    const [mean, low, high] = [series.mean, series.min, series.max].map((all) => valueAt(all, t0, step, at));
    // The extremes of a sum, or of a coarse source, are not known: that is not 0.
    const text = mean === null ? "no data" : written(mean);
    const isKnown = low !== null && high !== null && mean !== null;
    const note = isKnown && low < high ? between(written(low), written(high), text) : "";
    parts.push({ role: series.role, name: series.name, text, note });
    const before = series.before;
    if (!before) continue;
    const then = valueAt(before.values, before.t0, before.step, at);
    parts.push({ role: series.role, dash: true, name: before.name, text: then === null ? "no data" : written(then) });
  }
  for (const line of content.raw ?? []) {
    const value = rawAt(line, at);
    if (value !== null) parts.push({ role: "raw", name: `${line.name}, raw`, text: amount(unit, value) });
  }
  const capacity = content.capacity && capacityAt(content, at);
  if (capacity) parts.push({ role: "capacity", name: content.capacity.name, text: written(capacity) });
  return parts;
}

/** What the lines of a chart are, while the pointer is elsewhere. */
function partsAtRest(content) {
  const parts = content.series.map((series) => ({ role: series.role, name: series.name }));
  if (content.series[0]?.before) {
    parts.push({ role: content.series[0].role, dash: true, name: content.series[0].before.name });
  }
  if (content.raw?.length) parts.push({ role: "raw", name: "raw" });
  if (content.capacity) parts.push({ role: "capacity", name: content.capacity.name });
  if (content.beyond) parts.push({ name: content.beyond });
  return parts;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function written(part) {
  const box = element("span");
  if (part.role) box.append(element("i", `key ${part.role}${part.dash ? " dash" : ""}`));
  box.append(part.name);
  if (part.text) box.append(" ", element("b", "", part.text));
  if (part.note) box.append(" ", element("small", "", part.note));
  return box;
}

/** The time of the bucket that holds a moment, and how much of it there is. */
function timeAt(content, at) {
  const start = at - ((((at - content.t0) % content.step) + content.step) % content.step);
  const first = new Date(start * 1000);
  if (content.step <= MINUTE) {
    const utc = utcMinute(first);
    return minuteOf(first) + (utc && ` (${utc})`);
  }
  const share = content.partial?.[Math.floor((at - content.t0) / content.step)];
  return span(first, new Date((start + content.step) * 1000)) + (share ? ` \u00b7 ${share} minutes` : "");
}

/** The head of one chart: at the moment under the pointer, or at rest. */
export function showHead(plot, content) {
  sayToKeys(plot, content);
  const figure = plot.closest("[data-chart]"), cursor = figure.querySelector("[data-cursor]");
  const time = figure.querySelector("[data-covered]"), values = figure.querySelector("[data-values]");
  const isOver = moment !== null && !content.empty && moment >= content.start && moment < content.end;
  cursor.hidden = !isOver;
  if (!isOver) {
    time.textContent = content.covered ?? "";
    values.replaceChildren(...(content.empty ? [] : partsAtRest(content).map(written)));
    return;
  }
  const { l, r } = content.layout.margin;
  const share = (moment - content.start) / (content.end - content.start);
  cursor.style.left = `${l + share * (plot.clientWidth - l - r)}px`;
  time.textContent = timeAt(content, moment);
  values.replaceChildren(...valuesAt(content, moment));
}

/** The values of a moment; in a gap only its reason. */
function valuesAt(content, at) {
  const gap = content.gaps.find(({ start, end }) => start <= at && at < end);
  if (gap) return [element("span", "gap", gap.text)];
  if (hasValue(content, at)) return partsAt(content, at).map(written);
  return partsAt(content, at).filter((part) => part.role !== "capacity").map(written);
}

/** The moment under the pointer; null outside of the plot's axes. */
function momentAt(plot, content, clientX) {
  const { l, r } = content.layout.margin, box = plot.getBoundingClientRect();
  const share = (clientX - box.left - l) / (box.width - l - r);
  return share < 0 || share >= 1 ? null : content.start + share * (content.end - content.start);
}

function show(next) {
  if (next === moment) return;
  moment = next;
  for (const [each, its] of charts) if (each.isConnected) showHead(each, its);
}

function move(event) {
  const plot = event.target.closest?.(".plot[data-state=ready]"), content = charts.get(plot);
  // A cross-hair that the keys have set stays while the pointer is somewhere else.
  if (!content && isByKey) return;
  isByKey = false;
  show(content ? momentAt(plot, content, event.clientX) : null);
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

/** The middle of the bucket that a key leads to, in a chart that has the focus. */
function momentByKey(content, key) {
  const { t0, step, start, end } = content, last = Math.floor((end - 1 - t0) / step);
  const first = Math.max(0, Math.floor((start - t0) / step));
  const here = moment === null ? (STEPS[key] > 0 ? first - 1 : last + 1) : Math.floor((moment - t0) / step);
  const next = Math.min(last, Math.max(first, here + STEPS[key]));
  return Math.min(end - 1, Math.max(start, t0 + next * step + step / 2));
}

function press(event) {
  const content = charts.get(event.target);
  if (!content || content.empty || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") show(null);
  else if (event.key in STEPS) show(momentByKey(content, event.key));
  else return;
  isByKey = event.key !== "Escape";
  event.preventDefault();
}

/** A chart with numbers takes the focus, and says its moment and values to screen readers. */
function sayToKeys(plot, content) {
  if (content.empty) {
    for (const name of ["tabindex", "role", "aria-label", "aria-valuetext"]) plot.removeAttribute(name);
    return;
  }
  const figure = plot.closest("[data-chart]"), at = moment ?? content.end - 1;
  const title = figure.querySelector("figcaption > span").textContent;
  plot.tabIndex = 0;
  plot.setAttribute("role", "slider");
  plot.setAttribute("aria-label", `${title}: moment`);
  plot.setAttribute("aria-valuemin", content.start);
  plot.setAttribute("aria-valuemax", content.end);
  plot.setAttribute("aria-valuenow", Math.round(at));
  const values = valuesAt(content, at).map((part) => part.textContent).join(", ");
  plot.setAttribute("aria-valuetext", moment === null ? "arrow keys show values" : `${timeAt(content, at)}: ${values}`);
}

/** Follow the pointer over the charts of a map of plots and contents. */
export function startReadout(drawn) {
  charts = drawn;
  document.addEventListener("pointermove", move);
  document.addEventListener("keydown", press);
  document.addEventListener("focusout", (event) => {
    if (!isByKey || !charts.has(event.target)) return;
    isByKey = false;
    show(null);
  });
  document.addEventListener("ops:zone", () => charts.forEach((content, plot) => showHead(plot, content)));
}
