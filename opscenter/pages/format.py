"""Amounts as pages show them: short, with their unit, and a dash if not known. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

UNKNOWN = "\N{EN DASH}"

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("B/s", "kB/s", "MB/s", "GB/s", "TB/s")
_GLYPHS = {
    "critical": "✖",
    "degraded": "▲",
    "unknown": "?",
    "pending": "◌",
    "revoked": "⊘",
    "ok": "●",
}
_WORDS = {"pending": "waiting"}
_BUCKETS = {"1m": "minutes", "10m": "ten minutes", "1h": "hours"}


def cores(millicores: float | None) -> str:
    """Return CPU as millicores below one core ("147 m"), else as cores ("4.79 cores").

    Sources round to whole millicores, so that nothing known is less than "<1 m".
    """
    if millicores is None:
        return UNKNOWN
    if 0 <= millicores < 0.5:
        return "<1 m"
    if abs(millicores) < 1000:
        return f"{millicores:,.0f} m"
    size = abs(millicores)
    digits = 2 if size < 10_000 else 1 if size < 100_000 else 0
    return f"{millicores / 1000:,.{digits}f} cores"


def size(amount: float | None) -> str:
    """Return bytes with a binary unit: "88.4 GiB"."""
    return UNKNOWN if amount is None else _scaled(amount, 1024, _BINARY)


def rate(amount: float | None) -> str:
    """Return bytes per second with a decimal unit: "1.3 MB/s"."""
    return UNKNOWN if amount is None else _scaled(amount, 1000, _DECIMAL)


def count(amount: float | None) -> str:
    """Return a number with thousands separated."""
    return UNKNOWN if amount is None else f"{amount:,.0f}"


def percent(ratio: float | None) -> str:
    """Return a ratio 0..1 as whole percent, rounded down so that 99.9 % is not called full."""
    return UNKNOWN if ratio is None else f"{int(ratio * 100 + 1e-9)} %"


def small_percent(ratio: float | None) -> str:
    """Return a share that is often small: as :func:`percent`, below 10 % with one decimal.

    What is not nothing is never called 0 %: it is "<0.1 %".
    """
    if ratio is None or ratio <= 0 or ratio >= 0.1:
        return percent(ratio)
    tenths = int(ratio * 1000 + 1e-9)
    return f"{tenths / 10:.1f} %" if tenths else "<0.1 %"


def duration(seconds: float | None) -> str:
    """Return a length of time in its one or two largest units: "12 s", "5 min", "3 h 20 min"."""
    if seconds is None:
        return UNKNOWN
    left = max(0, int(seconds))
    if left < 120:
        return f"{left} s"
    minutes, hours, days = left // 60, left // 3600, left // 86400
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        rest = minutes - hours * 60
        return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours} h"
    rest = hours - days * 24
    return f"{days} d {rest} h" if rest and days < 10 else f"{days} d"


def days(count: int) -> str:
    """Return a number of days in words: "7 days", "2 years" for whole years."""
    if count % 365 == 0 and count:
        return f"{count // 365} year{'s' if count > 365 else ''}"
    return f"{count:,} day{'' if count == 1 else 's'}"


def skew(milliseconds: float | None) -> str:
    """Return how far a clock is off: "107 ms ahead", "90 s behind"."""
    if milliseconds is None:
        return UNKNOWN
    amount = abs(milliseconds)
    if amount < 1:
        return "the same"
    text = f"{amount:.0f} ms" if amount < 10_000 else duration(amount / 1000)
    return f"{text} {'ahead' if milliseconds > 0 else 'behind'}"


def milliseconds(amount: float | None) -> str:
    """Return how long something took: "230 ms", "5.2 s"."""
    if amount is None:
        return UNKNOWN
    return f"{amount:.0f} ms" if amount < 1000 else f"{amount / 1000:,.1f} s"


def bucket(tier: str) -> str:
    """Return a tier in words, with its name: "ten minutes (10m)"."""
    return f"{_BUCKETS[tier]} ({tier})" if tier in _BUCKETS else tier


def plain(value: object) -> str:
    """Return a value of an audit line as people write it: "eu, us", "region=eu, tier=edge"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={plain(part)}" for key, part in sorted(value.items())) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return UNKNOWN if value is None or value == "" else str(value)


def by_unit(unit: str, value: float | None) -> str:
    """Return a value with its unit, one of :data:`metrics.series.catalog.Unit`."""
    if value is None:
        return UNKNOWN
    formats = {
        "millicores": cores,
        "bytes": size,
        "bytes/s": rate,
        "count": count,
        "seconds": duration,
    }
    if unit in formats:
        return formats[unit](value)
    if unit == "us":
        return f"{value / 1000:,.1f} ms"
    if unit == "load x1000":
        return f"{value / 1000:.2f}"
    return f"{value:g}"


def glyph(state: str) -> str:
    """Return the symbol of a health state, which never depends on the colour alone."""
    return _GLYPHS.get(state, "?")


def word(state: str) -> str:
    """Return the word that people use for a health state."""
    return _WORDS.get(state, state)


def moment(value: datetime | float | None) -> datetime | None:
    """Return an aware UTC time from a time or from Unix seconds."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromtimestamp(value, UTC)


def _scaled(amount: float, base: int, units: tuple[str, ...]) -> str:
    value = float(amount)
    for unit in units:
        if abs(value) < base or unit == units[-1]:
            break
        value /= base
    if unit == units[0] or abs(value) >= 100:
        return f"{value:,.0f} {unit}"
    return f"{value:.1f} {unit}"
