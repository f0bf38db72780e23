// Charts: plotly.js is loaded only when one is about to be visible.
import { showHead, startReadout } from "./readout.js";
import { local, localText, now } from "./times.js";
import { layoutOf, tracesOf } from "./traces.js";

const SHORTEST = 300; // seconds; as SHORTEST_SECONDS in opscenter/pages/time_range.py
const CONFIG = { displaylogo: false, displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
const drawn = new Map(); // plot element -> content
let plotly = null;

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

function ask(url) {
  const headers = { Accept: "application/json", "HX-Request": "true", "HX-Current-URL": location.href };
  return fetch(url, { headers });
}

/** Ask the cluster, and draw again with its samples; say once, above the charts, what came. */
async function loadRaw(plot, content) {
  const figure = plot.closest("[data-chart]"), note = document.querySelector("[data-raw-note]");
  if (!figure.dataset.raw || content.raw || content.empty) return;
  content.raw = [];
  const answer = await ask(figure.dataset.raw).catch(() => null);
  const sent = answer?.ok ? await answer.json() : { error: "Ops Center did not answer." };
  if (!plot.isConnected || drawn.get(plot) !== content) return;
  if (note && sent.code !== "empty") {
    note.textContent = localText(sent.error ?? sent.note);
    note.classList.toggle("error", Boolean(sent.error));
  }
  if (!sent.lines) return;
  content.raw = sent.lines;
  await draw(plot, content);
}

/** No empty axes: the reason, and when there was a number before. */
function drawEmpty(plot, content) {
  if (window.Plotly && drawn.has(plot)) window.Plotly.purge(plot);
  plot.replaceChildren();
  drawn.set(plot, content);
  say(plot, "empty", content.why + (content.last ? ` Last measured ${local(new Date(content.last * 1000))}.` : ""));
  showHead(plot, content);
}

async function draw(plot, content) {
  const change = plot.closest("[data-chart]").querySelector("[data-change]");
  if (change) change.title = change.textContent = content.change ?? "";
  if (content.empty) {
    drawEmpty(plot, content);
    return;
  }
  const Plotly = await loadPlotly(plot.closest("[data-plotly]").dataset.plotly);
  const fresh = drawn.get(plot)?.empty ?? true;
  drawn.set(plot, content);
  await Plotly.react(plot, tracesOf(content), layoutOf(content, plot.clientWidth), CONFIG);
  say(plot, "ready", "");
  showHead(plot, content);
  if (fresh) listen(plot);
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

function listen(plot) {
  plot.on("plotly_relayout", (change) => {
    const from = change["xaxis.range[0]"], to = change["xaxis.range[1]"];
    if (from !== undefined && to !== undefined) zoom(Number(from), Number(to));
  });
  plot.on("plotly_doubleclick", () => {
    const wide = plot.closest("[data-wide]")?.dataset.wide;
    if (wide) go(wide);
  });
}

/** Show a range of Unix seconds, at least the shortest one around its middle, and none of the future. */
function zoom(start, end) {
  const middle = (start + end) / 2, half = Math.max(SHORTEST / 2, (end - start) / 2);
  const last = Math.min(middle + half, now() / 1000);
  const url = new URL(location.href);
  url.searchParams.delete("range");
  url.searchParams.set("start", Math.floor(Math.min(middle - half, last - SHORTEST)));
  url.searchParams.set("end", Math.floor(last));
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

function drawAgain() {
  for (const [plot, content] of drawn) if (plot.isConnected) draw(plot, content);
}

startReadout(drawn);
document.addEventListener("ops:refreshed", () => {
  if (!document.querySelector("[data-charts][data-moving]")) return;
  for (const plot of drawn.keys()) {
    // The cluster's own samples stay: each request is one more for its server.
    if (plot.isConnected && !plot.matches(":hover") && !plot.closest("[data-raw]")) load(plot);
  }
});
document.addEventListener("ops:zone", drawAgain);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAgain);
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
