// The lines and axes of a chart as plotly.js wants them, in the style sheet's colours. The server
// sends the numbers on a regular grid; times are Unix seconds throughout.
import { ticks } from "./axis.js";

const FEW = 5; // fewer points than this are drawn as points: a line of two is easily missed
const TICK_WIDTH = 60;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

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
  return { type: "scatter", mode: "lines", x: xs, y: ys, fill: "toself", fillcolor: colour, line: { width: 0 } };
}

function lineOf(series, x) {
  const few = series.mean.filter((value) => value !== null).length < FEW;
  const isKnown = (i) => (series.mean[i] ?? null) !== null;
  const alone = series.mean.map((value, i) => {
    if (value === null) return 0;
    if (few) return 6;
    return isKnown(i - 1) || isKnown(i + 1) ? 0 : 5;
  });
  return {
    type: "scatter", mode: "lines+markers", name: series.name, x, y: series.mean, connectgaps: false,
    line: { color: css(PAINT[series.role][0]), width: 1.6, dash: series.role === "net2" ? "dot" : "solid" },
    marker: { size: alone, color: css(PAINT[series.role][0]), line: { width: 0 }, opacity: 1 },
  };
}

/** The same line of an earlier range, moved onto this one. */
function beforeOf(series) {
  const before = series.before;
  return {
    type: "scatter", mode: "lines", name: before.name, connectgaps: false, y: before.values,
    x: before.values.map((_, i) => before.t0 + i * before.step),
    line: { color: css(PAINT[series.role][0]), width: 1.3, dash: series.role === "net2" ? "longdashdot" : "6px,4px" },
    opacity: .75,
  };
}

/** The cluster's own samples: a thin line with points, over the stored one. */
function rawOf(line, content) {
  return {
    type: "scatter", mode: "lines+markers", name: `${line.name}, raw`, connectgaps: true,
    x: line.t, y: line.v.map((value) => value / content.divisor),
    line: { color: css("--text"), width: .8 },
    marker: { color: css("--text"), size: 3, symbol: line.role === "net2" ? "square" : "circle" },
  };
}

function capacityOf(capacity, x) {
  const few = capacity.values.filter((value) => value !== null).length < FEW;
  return {
    type: "scatter", mode: few ? "lines+markers" : "lines", x, y: capacity.values,
    connectgaps: true, marker: { symbol: "line-ew-open", size: 12, color: css("--muted"), line: { width: 1.4 } },
    line: { color: css("--muted"), width: 1.2, dash: "dash", shape: "hv" }, // a capacity jumps, it never slopes
  };
}

export function tracesOf(content) {
  const count = content.series[0]?.mean.length ?? 0;
  const x = Array.from({ length: count }, (_, i) => content.t0 + i * content.step);
  const all = content.series.map((series) => band(series, x, css(PAINT[series.role][1])));
  for (const series of content.series) if (series.before) all.push(beforeOf(series));
  for (const series of content.series) all.push(lineOf(series, x));
  if (content.capacity) all.push(capacityOf(content.capacity, x));
  for (const line of content.raw ?? []) all.push(rawOf(line, content));
  for (const trace of all) Object.assign(trace, { hoverinfo: "skip", showlegend: false });
  return all;
}

export function layoutOf(content, width) {
  const layout = structuredClone(content.layout);
  const { l, r } = layout.margin;
  const grid = {
    gridcolor: css("--line-soft"), linecolor: css("--line"), tickfont: { color: css("--muted"), size: 11 },
  };
  layout.font = { family: css("--font"), color: css("--text"), size: 12 };
  const most = Math.max(2, Math.floor((width - l - r) / TICK_WIDTH));
  Object.assign(layout.xaxis, grid, ticks(content.start, content.end, most), { range: [content.start, content.end] });
  Object.assign(layout.yaxis, grid, { ticksuffix: content.suffix });
  layout.shapes = content.gaps.map((gap) => ({
    type: "rect", xref: "x", yref: "paper", x0: gap.start, x1: gap.end, y0: 0, y1: 1, layer: "below",
    line: { width: 0 }, fillcolor: css(gap.state === "lost" ? "--critical-bg" : "--unknown-bg"),
  }));
  return layout;
}
