// Charts: plotly.js is loaded only when one is about to be visible. The server sends the layout and
// numbers on a regular grid; colours are the style sheet's, for light and dark.

import { local } from "./times.js";

let plotly = null;
const drawn = new Map(); // plot element -> content
let hovering = false;

function loadPlotly(src) {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = src;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotly = null;
      reject(new Error("the chart library did not load"));
    };
    document.head.append(script);
  });
  return plotly;
}

const FEW = 5; // fewer points than this are drawn as points: a line of two is easily missed

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// plotly.js shows dates in UTC: shift each time by its own offset, so that axes read local time.
const shown = (seconds) => seconds * 1000 - new Date(seconds * 1000).getTimezoneOffset() * 60000;
const unix = (text) => Math.round(new Date(String(text).replace(" ", "T").slice(0, 19)).getTime() / 1000);

const PAINT = {
  cpu: ["--cpu", "--band-cpu"],
  mem: ["--mem", "--band-mem"],
  disk: ["--disk", "--band-disk"],
  net: ["--net", "--band-net"],
  net2: ["--cpu", "--band-cpu"],
};

/** One closed shape per run of data: low forwards, high backwards. */
function band(series, x, colour) {
  const xs = [], ys = [];
  let from = -1;
  for (let i = 0; i <= x.length; i++) {
    const has = i < x.length && series.min[i] !== null && series.max[i] !== null;
    if (has && from < 0) from = i;
    if (!has && from >= 0) {
      for (let k = from; k < i; k++) xs.push(x[k]), ys.push(series.min[k]);
      for (let k = i - 1; k >= from; k--) xs.push(x[k]), ys.push(series.max[k]);
      xs.push(null), ys.push(null);
      from = -1;
    }
  }
  return {
    type: "scatter", mode: "lines", x: xs, y: ys, fill: "toself", fillcolor: colour, line: { width: 0 },
    hoverinfo: "skip", showlegend: false,
  };
}

function lineOf(series, x, content, first) {
  const few = series.mean.filter((value) => value !== null).length < FEW;
  const isKnown = (i) => (series.mean[i] ?? null) !== null;
  const alone = series.mean.map((value, i) => {
    if (value === null) return 0;
    if (few) return 6;
    return isKnown(i - 1) || isKnown(i + 1) ? 0 : 5;
  });
  const away = first && new Date().getTimezoneOffset() !== 0;
  const unit = content.suffix;
  return {
    type: "scatter", mode: "lines+markers", name: series.name, x, y: series.mean, connectgaps: false,
    line: { color: css(PAINT[series.role][0]), width: 1.6, dash: series.role === "net2" ? "dot" : "solid" },
    marker: { size: alone, color: css(PAINT[series.role][0]), line: { width: 0 }, opacity: 1 },
    customdata: x.map((_, i) => [
      series.min[i],
      series.max[i],
      new Date((content.t0 + i * content.step) * 1000).toISOString().slice(11, 16),
    ]),
    hovertemplate: x.map((_, i) => {
      // The extremes of a sum, or of a coarse source, are not known: that is not 0.
      const hasExtremes = series.min[i] !== null && series.max[i] !== null;
      const extremes = hasExtremes ? " (%{customdata[0]:,.4~g} to %{customdata[1]:,.4~g})" : "";
      return `%{y:,.4~g}${unit}${extremes}${away ? "<br>UTC %{customdata[2]}" : ""}`;
    }),
  };
}

/** The same line of an earlier range, moved onto this one. */
function beforeOf(series, content) {
  const before = series.before;
  return {
    type: "scatter", mode: "lines", name: before.name, connectgaps: false, y: before.values,
    x: before.values.map((_, i) => shown(before.t0 + i * before.step)),
    line: { color: css(PAINT[series.role][0]), width: 1.3, dash: series.role === "net2" ? "longdashdot" : "6px,4px" },
    opacity: .75,
    hovertemplate: `%{y:,.4~g}${content.suffix}`,
  };
}

/** The cluster's own samples: a thin line with points, over the stored one. */
function rawOf(line, content) {
  return {
    type: "scatter", mode: "lines+markers", name: `${line.name}, raw`, connectgaps: true,
    x: line.t.map(shown), y: line.v.map((value) => value / content.divisor),
    line: { color: css("--text"), width: .8 },
    marker: { color: css("--text"), size: 3, symbol: line.role === "net2" ? "square" : "circle" },
    hovertemplate: `%{y:,.4~g}${content.suffix}`,
  };
}

function ask(url) {
  const headers = { Accept: "application/json", "HX-Request": "true", "HX-Current-URL": location.href };
  return fetch(url, { headers });
}

/** Ask the cluster, and draw again with its samples. */
async function loadRaw(plot, content) {
  const figure = plot.closest("[data-chart]"), note = figure.querySelector("[data-raw-note]");
  if (!figure.dataset.raw || content.raw || content.empty) return;
  content.raw = [];
  const answer = await ask(figure.dataset.raw).catch(() => null);
  const sent = answer?.ok ? await answer.json() : { error: "Ops Center did not answer." };
  if (!plot.isConnected || drawn.get(plot) !== content) return;
  note.textContent = sent.error ?? sent.note;
  note.classList.toggle("error", Boolean(sent.error) && sent.code !== "empty");
  if (!sent.lines) return;
  content.raw = sent.lines;
  await draw(plot, content);
}

/** Invisible points within the gaps, so that hovering there says why. */
function gapPoints(content) {
  const x = [], text = [];
  const step = Math.max(content.step, (content.end - content.start) / 400);
  for (const gap of content.gaps) {
    for (let at = gap.start; at < gap.end; at += step) x.push(shown(at)), text.push(gap.text);
  }
  return {
    type: "scatter", mode: "markers", x, y: x.map(() => 0), marker: { opacity: 0, size: 8 },
    customdata: text, hovertemplate: "%{customdata}<extra></extra>", showlegend: false,
  };
}

function traces(content) {
  const count = content.series[0]?.mean.length ?? 0;
  const x = Array.from({ length: count }, (_, i) => shown(content.t0 + i * content.step));
  const all = content.series.map((series) => band(series, x, css(PAINT[series.role][1])));
  for (const series of content.series) if (series.before) all.push(beforeOf(series, content));
  content.series.forEach((series, i) => all.push(lineOf(series, x, content, i === 0)));
  if (content.capacity) {
    const few = content.capacity.values.filter((value) => value !== null).length < FEW;
    all.push({
      type: "scatter", mode: few ? "lines+markers" : "lines", name: content.capacity.name,
      x, y: content.capacity.values, connectgaps: true,
      marker: { symbol: "line-ew-open", size: 12, color: css("--muted"), line: { width: 1.4 } },
      line: { color: css("--muted"), width: 1.2, dash: "dash", shape: "hv" }, // a capacity jumps, it never slopes
      hovertemplate: `%{y:,.4~g}${content.suffix}`,
    });
  }
  for (const line of content.raw ?? []) all.push(rawOf(line, content));
  if (content.gaps.length) all.push(gapPoints(content));
  return all;
}

function layoutOf(content, width) {
  const layout = structuredClone(content.layout);
  if (width < 480) layout.xaxis.nticks = 4;
  const grid = {
    gridcolor: css("--line-soft"), linecolor: css("--line"), tickfont: { color: css("--muted"), size: 11 },
  };
  layout.font = { family: css("--font"), color: css("--text"), size: 12 };
  Object.assign(layout.xaxis, grid, { range: [shown(content.start), shown(content.end)], spikecolor: css("--faint") });
  Object.assign(layout.yaxis, grid, { ticksuffix: content.suffix });
  // Only what is there: beside a gap not its reason, and within it no value from beside it.
  const step = Math.max(content.step, ...content.series.map((series) => series.before?.step ?? 0));
  layout.hoverdistance = Math.max(2, Math.ceil((0.6 * step * width) / (content.end - content.start)));
  layout.hoverlabel = {
    bgcolor: css("--raised"), bordercolor: css("--line"),
    font: { color: css("--text"), family: css("--font"), size: 12 },
  };
  layout.shapes = content.gaps.map((gap) => ({
    type: "rect", xref: "x", yref: "paper", x0: shown(gap.start), x1: shown(gap.end), y0: 0, y1: 1,
    layer: "below", line: { width: 0 },
    fillcolor: css(gap.state === "lost" ? "--critical-bg" : "--unknown-bg"),
  }));
  return layout;
}

const CONFIG = { displaylogo: false, displayModeBar: false, responsive: true, doubleClick: false, showTips: false };

async function draw(plot, content) {
  const change = plot.closest("[data-chart]").querySelector("[data-change]");
  if (change) change.textContent = content.change ?? "";
  const covered = plot.closest("[data-chart]").querySelector("[data-covered]");
  if (covered) covered.textContent = content.covered ? ` \u00b7 ${content.covered}` : "";
  const dashed = plot.closest("[data-chart]").querySelector("[data-dashed]");
  if (dashed) dashed.textContent = content.beyond || dashed.dataset.dashed;
  if (content.empty) {
    // No empty axes: the reason, and when there was a number before.
    if (window.Plotly && drawn.has(plot)) window.Plotly.purge(plot);
    plot.replaceChildren();
    drawn.set(plot, content);
    say(plot, "empty", content.why + (content.last ? ` Last measured ${local(new Date(content.last * 1000))}.` : ""));
    return;
  }
  const Plotly = await loadPlotly(plot.closest("[data-plotly]").dataset.plotly);
  const fresh = drawn.get(plot)?.empty ?? true;
  drawn.set(plot, content);
  if (plot.dataset.state === "empty") say(plot, "loading", ""); // an empty plot is low
  await Plotly.react(plot, traces(content), layoutOf(content, plot.clientWidth), CONFIG);
  say(plot, "ready", "");
  if (fresh) listen(plot, Plotly);
  loadRaw(plot, content);
}

function say(plot, state, message) {
  plot.dataset.state = state;
  plot.dataset.message = message;
}

async function load(plot) {
  const source = plot.closest("[data-chart]").dataset.src;
  try {
    const answer = await ask(source);
    if (answer.status === 401) {
      location.assign(answer.headers.get("HX-Redirect") ?? "/");
      return;
    }
    if (answer.status === 503 && answer.headers.get("Content-Type")?.startsWith("text/plain")) {
      throw new Error((await answer.text()).replace(/\.$/, ""));
    }
    if (!answer.ok) throw new Error(`Ops Center answered ${answer.status}`);
    await draw(plot, await answer.json());
  } catch (error) {
    if (!drawn.has(plot)) {
      say(plot, "failed", `This chart could not be drawn: ${error.message}. Reload the page to try again.`);
    }
  }
}

function listen(plot, Plotly) {
  plot.on("plotly_hover", (event) => {
    if (hovering) return;
    hovering = true;
    for (const other of drawn.keys()) {
      if (other !== plot && other.isConnected && !drawn.get(other).empty) {
        Plotly.Fx.hover(other, { xval: event.xvals[0] }, ["xy"]);
      }
    }
    hovering = false;
  });
  plot.on("plotly_unhover", () => {
    if (hovering) return;
    hovering = true;
    for (const other of drawn.keys()) {
      if (other !== plot && other.isConnected && !drawn.get(other).empty) Plotly.Fx.unhover(other);
    }
    hovering = false;
  });
  plot.on("plotly_relayout", (change) => {
    const from = change["xaxis.range[0]"], to = change["xaxis.range[1]"];
    if (from !== undefined && to !== undefined) zoom(unix(from), unix(to));
  });
  plot.on("plotly_doubleclick", () => {
    const wide = plot.closest("[data-wide]")?.dataset.wide;
    if (wide) go(wide);
  });
}

function zoom(start, end) {
  const middle = (start + end) / 2, half = Math.max(150, (end - start) / 2);
  const url = new URL(location.href);
  url.searchParams.delete("range");
  url.searchParams.set("start", Math.round(middle - half));
  url.searchParams.set("end", Math.round(middle + half));
  go(url.pathname + url.search);
}

/** Show another range on this page; the address and the back button follow. */
function go(address) {
  history.replaceState({ htmx: true }, "", location.href);
  history.pushState({ htmx: true }, "", address);
  htmx.ajax("GET", address, { target: "#page", select: "#page", swap: "outerHTML show:none" });
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    load(entry.target);
  }
}, { rootMargin: "200px" });

export function drawAll() {
  for (const plot of drawn.keys()) {
    if (!plot.isConnected) drawn.delete(plot);
  }
  for (const plot of document.querySelectorAll("[data-chart] .plot:not([data-watched])")) {
    plot.dataset.watched = "";
    seen.observe(plot);
  }
}

document.addEventListener("ops:refreshed", () => {
  if (!document.querySelector("[data-charts][data-moving]")) return;
  for (const plot of drawn.keys()) {
    // The cluster's own samples stay: each request is one more for its server.
    if (plot.isConnected && !plot.matches(":hover") && !plot.closest("[data-raw]")) load(plot);
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [plot, content] of drawn) if (plot.isConnected) draw(plot, content);
});
// Paper is narrower than the screen that the charts were drawn for.
const PAPER_WIDTH = 330;
addEventListener("beforeprint", () => {
  for (const plot of drawn.keys()) plot.style.setProperty("--print-zoom", Math.min(1, PAPER_WIDTH / plot.clientWidth));
});
document.addEventListener("htmx:beforeSwap", (event) => {
  for (const plot of drawn.keys()) {
    if (event.detail.target?.contains(plot)) window.Plotly?.purge(plot);
  }
});
