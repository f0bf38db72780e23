// The time axis of charts. Its numbers are Unix seconds; only the labels know of a zone, so that a
// change of clocks neither doubles nor hides an hour.
import { clock, labels, unixOf } from "./times.js";

const DAY = 86_400, QUARTER = 900, EPOCH_MONDAY = 4;
const CLOCK_STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];
const DAY_STEPS = [1, 2, 7, 14];
const MONTH_STEPS = [1, 3, 6, 12, 24, 60];

/** Times at which the zone's clocks show a multiple of `step` seconds. */
function clockTimes(start, end, step) {
  const found = [], grid = Math.min(step, QUARTER);
  for (let at = Math.ceil(start / grid) * grid; at <= end; at += grid) {
    if (clock(at).second % step === 0) found.push(at);
  }
  return found;
}

const midnight = (days) => unixOf(`${new Date(days * DAY * 1000).toISOString().slice(0, 10)}T00:00`);

function dayTimes(start, end, step) {
  const found = [];
  for (let days = clock(start).days; days <= clock(end).days; days += 1) {
    if ((days - EPOCH_MONDAY) % step === 0) found.push(midnight(days));
  }
  return found.filter((at) => at >= start && at <= end);
}

function monthTimes(start, end, step) {
  const found = [], first = new Date(clock(start).days * DAY * 1000);
  for (let month = first.getUTCFullYear() * 12 + first.getUTCMonth(); ; month += 1) {
    if (month % step) continue;
    const at = midnight(Date.UTC(Math.floor(month / 12), month % 12, 1) / 1000 / DAY);
    if (at > end) return found;
    if (at >= start) found.push(at);
  }
}

function timesAndKind(start, end, most) {
  const length = (end - start) / most;
  const step = CLOCK_STEPS.find((seconds) => seconds >= length);
  if (step) return [clockTimes(start, end, step), "clock"];
  const days = DAY_STEPS.find((count) => count * DAY >= length);
  if (days) return [dayTimes(start, end, days), "day"];
  const months = MONTH_STEPS.find((count) => count * 31 * DAY >= length) ?? MONTH_STEPS.at(-1);
  return [monthTimes(start, end, months), "month"];
}

/** At most about `most` ticks of a range of Unix seconds, as plotly.js wants them. */
export function ticks(start, end, most) {
  const [tickvals, kind] = timesAndKind(start, end, most);
  let before = "";
  const ticktext = tickvals.map((at) => {
    const text = labels(at), below = kind === "clock" ? text.day : text.year;
    const isNew = below !== before;
    before = below;
    return isNew ? `${text[kind]}<br>${below}` : text[kind];
  });
  return { tickmode: "array", tickvals, ticktext };
}
