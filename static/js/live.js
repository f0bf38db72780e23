// One socket per page. It reports only that something changed; the page then fetches its content again.
// Messages: {type: "changed", cluster, what} and {type: "hello" | "beat", now, as_of, missing_parts, problem}:
// the server's time, when it last judged the page's clusters, and what does not work at Ops Center itself.
// Silence is not taken for no news: a page that was told nothing for a minute asks.
import { problem, showProblem } from "./centre.js";
import { duration, local, now, setServerTime } from "./times.js";
import { startFleet, fleetChanged, pollFleet, refreshFleet } from "./fleet.js";
import { startParts, partsChanged, refreshParts } from "./parts.js";

const BEAT_SECONDS = 20; // the server's; silence for more than twice that is a dead link
const FIRST_WAIT = 1000, LONGEST_WAIT = 30000;
const POLL_SECONDS = 30; // up to twice that: for pages whose proxy lets no socket through
const QUIET_SECONDS = 60; // a page that was told of no change for this long asks
const GRACE = 2500; // a restart of the server shows no banner
const POLL_TITLE =
  "Something in between blocks live connections (WebSocket). The page checks every 30 to 60 s instead.";

let socket = null, attempts = 0, timer = 0, lostAt = 0, heardAt = 0, retryAt = 0, asOf = now();
let leaving = false, wasOpen = false, polls = 0, polling = false;
let wanted = "wait", fetchedAt = Date.now(), stuck = false; // stuck: the page could not be fetched again

const sign = () => document.querySelector(".live");
const banner = () => document.getElementById("lost");

/** Show how the page is kept fresh; nothing is live while a part of Ops Center does not work. */
function show(wish) {
  wanted = wish;
  const trouble = problem() || (stuck ? "This page could not be fetched again." : "");
  const state = trouble && wish !== "wait" ? "off" : wish;
  const element = sign();
  if (!element) return;
  element.title = state === "poll" ? POLL_TITLE : state === "off" ? trouble : "";
  if (element.dataset.state === state) return;
  element.dataset.state = state;
  element.textContent = { on: "live", wait: "connecting", off: "not live", poll: "every 45 s" }[state];
}

function tick() {
  if (!lostAt) {
    if (socket?.readyState === WebSocket.OPEN && Date.now() - heardAt > (2 * BEAT_SECONDS + 5) * 1000) {
      socket.close();
      lost();
    } else if (!document.hidden && Date.now() - fetchedAt > QUIET_SECONDS * 1000) {
      askAnyway();
    }
    return;
  }
  const box = banner();
  if (polling || Date.now() - lostAt < GRACE) return;
  show("off");
  box.hidden = false;
  const gone = now() - (Date.now() - lostAt);
  box.querySelector("[data-lost-since]").textContent = local(new Date(gone));
  box.querySelector("[data-lost-asof]").textContent =
    `the state of ${local(new Date(asOf))}, ${duration((now() - asOf) / 1000)} old,`;
  const wait = Math.ceil((retryAt - Date.now()) / 1000);
  box.querySelector("[data-lost-next]").textContent = wait > 0 ? `Next try in ${wait} s.` : "Trying now.";
}

/** Fetch what the page shows although nobody said that it changed: time alone changes it. */
async function askAnyway() {
  fetchedAt = Date.now();
  stuck = !((await pollFleet()) && (await refreshParts()));
  if (!lostAt) show(wanted);
}

/** A page is as new as what it fetched, not as what it was told: a fetch that fails makes it not live. */
function fetched(good) {
  if (good) fetchedAt = Date.now();
  if (stuck === !good) return;
  stuck = !good;
  if (!lostAt) show(wanted);
}

function lost() {
  if (leaving) return;
  lostAt ||= Date.now();
  if (!polling) show("wait");
  if (attempts === 1) poll();
  clearTimeout(timer);
  const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempts) * (0.5 + Math.random() / 2);
  attempts += 1;
  retryAt = Date.now() + wait;
  timer = setTimeout(connect, wait);
}

/** Without a socket, but with HTTP: poll quietly until the socket is back. */
async function poll() {
  clearTimeout(polls);
  if (!lostAt || leaving) return;
  if (document.hidden && polling) {
    polls = setTimeout(poll, POLL_SECONDS * 1000);
    return;
  }
  const good = (await pollFleet()) && (await refreshParts());
  if (!lostAt) return;
  polling = good;
  stuck = false; // the banner of the lost connection says it
  if (good) {
    asOf = now();
    show("poll");
    banner().hidden = true;
  }
  clearTimeout(polls);
  polls = setTimeout(poll, (good ? 1 + Math.random() : 0.5) * POLL_SECONDS * 1000);
}

function opened() {
  clearTimeout(polls);
  polling = false;
  const again = wasOpen || attempts > 0;
  attempts = 0;
  lostAt = 0;
  wasOpen = true;
  stuck = false;
  fetchedAt = Date.now();
  show("on");
  banner().hidden = true;
  if (again) refreshAll(); // what was missed meanwhile
}

function refreshAll() {
  refreshFleet();
  refreshParts();
}

function heard(event) {
  heardAt = Date.now();
  const message = JSON.parse(event.data);
  if (message.now) setServerTime(message.now);
  if (message.as_of) asOf = message.as_of * 1000;
  if ("problem" in message) {
    const turned = !problem() !== !message.problem;
    showProblem(message.problem);
    if (turned && message.type === "beat") askAnyway(); // what the page claims of the whole depends on it
  }
  if (message.type === "hello") opened();
  if (message.type === "changed") {
    fleetChanged(message);
    partsChanged(message);
  }
}

/** A handshake that is refused has no reason here: whoever is signed out is told so by HTTP. */
async function askIfSignedIn() {
  const headers = { "HX-Request": "true", "HX-Current-URL": location.href };
  const answer = await fetch("/fleet/updates/?ids=", { headers }).catch(() => null);
  if (answer?.status === 401 && !leaving) location.reload();
}

function connect() {
  clearTimeout(timer);
  const path = document.body.dataset.live;
  let accepted = false;
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
  const mine = socket;
  heardAt = Date.now();
  mine.addEventListener("open", () => (accepted = true));
  mine.addEventListener("message", heard);
  mine.addEventListener("close", (event) => {
    if (mine !== socket) return;
    // Signed out, or no longer permitted: the next request shows which.
    if (event.code === 4401 || event.code === 4404) {
      location.reload();
      return;
    }
    if (!accepted) askIfSignedIn();
    lost();
  });
}

export function startLive() {
  if (!document.body.dataset.live) return;
  startFleet();
  startParts();
  setInterval(tick, 1000);
  document.addEventListener("ops:problem", () => show(wanted));
  document.addEventListener("ops:fetched", (event) => fetched(event.detail.good));
  addEventListener("pagehide", () => (leaving = true));
  addEventListener("pageshow", (event) => {
    leaving = false;
    if (event.persisted) location.reload();
  });
  addEventListener("online", () => lostAt && connect());
  banner().querySelector("[data-lost-retry]").addEventListener("click", () => {
    if (!lostAt) return;
    attempts = 0;
    connect();
  });
  connect();
}
