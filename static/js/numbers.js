// Amounts in the heads of charts: three digits that count, a unit, never an exponent.

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const DECIMAL = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];
const LARGE = ["", "M", "G", "T"]; // from a million on: thousands are written out

/** "4.79", "47.9", "479", "4,790": three digits, or all that stand before the point. */
export function digits(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  const places = Math.min(3, Math.max(0, 2 - Math.floor(Math.log10(size))));
  return value.toLocaleString("en-US", { maximumFractionDigits: places, minimumFractionDigits: size < 1 ? 0 : places });
}

function scaled(value, base, units) {
  let power = 0;
  while (Math.abs(value) >= base && power < units.length - 1) value /= base, power += 1;
  return `${power ? digits(value) : Math.round(value).toLocaleString("en-US")} ${units[power]}`;
}

function counted(value) {
  if (Math.abs(value) < 1e6) return Number.isInteger(value) ? value.toLocaleString("en-US") : digits(value);
  let power = 1;
  value /= 1e6;
  while (Math.abs(value) >= 1000 && power < LARGE.length - 1) value /= 1000, power += 1;
  return `${digits(value)} ${LARGE[power]}`;
}

// Sources round to whole millicores: nothing that is known is less than "<1 m".
function cores(value) {
  if (value >= 0 && value < .5) return "<1 m";
  return Math.abs(value) < 1000 ? `${Math.round(value)} m` : `${digits(value / 1000)} cores`;
}

const FORMATS = {
  "millicores": cores,
  "bytes": (value) => scaled(value, 1024, BINARY),
  "bytes/s": (value) => scaled(value, 1000, DECIMAL),
  "count": counted,
  "us": (value) => `${digits(value / 1000)} ms`,
  "load x1000": (value) => digits(value / 1000),
};

/** A value of a unit of the catalogue, as people write it. */
export function amount(unit, value) {
  return (FORMATS[unit] ?? digits)(value);
}
