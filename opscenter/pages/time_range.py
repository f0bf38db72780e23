"""The time range of a page, as in its URL: ``range=6h``, or ``start=`` and ``end=``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlencode

from metrics.query import OFFSETS, TITLES
from metrics.series.windows import DAY

LENGTHS = {
    "1h": 3600,
    "6h": 6 * 3600,
    "24h": DAY,
    "7d": 7 * DAY,
    "90d": 90 * DAY,
    "2y": 730 * DAY,
}
DEFAULT = "6h"
SHORTEST_SECONDS = 300
LONGEST_SECONDS = 10 * 366 * DAY
CLOCK_SECONDS = 60
"""How far in the future an end is still now: fields hold whole minutes, and clocks differ."""

RAW_SECONDS = 3600
"""Up to this length, a range may show the cluster's own samples."""

_WORDS = {"1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d", "90d": "90 d", "2y": "2 y"}


@dataclass(frozen=True, slots=True)
class Range:
    """Unix seconds, end exclusive. ``name`` is "" for an absolute range.

    ``compare`` names the earlier range that charts show beside it, "" for none; with ``raw`` they
    ask the cluster itself as well. ``note`` says why this is not the range that was asked for, ""
    if it is.
    """

    start: int
    end: int
    name: str
    now: int
    compare: str = ""
    raw: bool = False
    note: str = ""

    @property
    def seconds(self) -> int:
        """Return the length."""
        return self.end - self.start

    @property
    def live(self) -> bool:
        """Return whether the range moves with the clock."""
        return bool(self.name)

    @property
    def query(self) -> str:
        """Return the range and how it is shown as a query string."""
        if self.name:
            return urlencode({"range": self.name}) + self.tail
        return urlencode({"start": self.start, "end": self.end}) + self.tail

    @property
    def tail(self) -> str:
        """Return how the range is shown, to be appended to another one in a query string."""
        return (f"&compare={self.compare}" if self.compare else "") + ("&raw=1" if self.raw else "")

    @property
    def may_be_raw(self) -> bool:
        """Return whether the range is narrow enough to ask the cluster for its own samples."""
        return self.seconds <= RAW_SECONDS

    @property
    def compare_title(self) -> str:
        """Return what the range is compared with; "" for nothing."""
        return TITLES.get(self.compare, "")

    @property
    def offset(self) -> int:
        """Return how much earlier that is, in seconds; 0 for nothing."""
        return OFFSETS.get(self.compare, 0)

    @property
    def title(self) -> str:
        """Return the range in words."""
        if self.name:
            return f"last {_WORDS[self.name]}"
        begin, end = (datetime.fromtimestamp(at, UTC) for at in (self.start, self.end))
        return f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"

    def shifted(self, half_lengths: int) -> Range:
        """Return the range moved by halves of its length, not beyond now."""
        step = self.seconds * half_lengths // 2
        end = min(self.end + step, self.now)
        return replace(self, start=end - self.seconds, end=end, name="")

    def widened(self) -> Range:
        """Return twice the range around the same middle, not beyond now."""
        length = min(self.seconds * 2, LONGEST_SECONDS)
        end = min(self.end + self.seconds // 2, self.now)
        return replace(self, start=end - length, end=end, name="")


def read_range(query: Mapping[str, str], now: datetime) -> Range:
    """Return the range that a URL asks for; the default range if it makes no sense.

    A range that is empty, too long or in the future is answered with the default range and a note,
    a too short one with the shortest that ends there. What cannot be read is ignored.
    """
    at = int(now.timestamp())
    compare = query.get("compare", "")
    compare = compare if compare in OFFSETS else ""
    raw = query.get("raw") == "1"
    start, end = _instant(query.get("start", "")), _instant(query.get("end", ""))
    note = ""
    if start is not None and end is not None:
        note = _refusal(start, end, at)
        if not note:
            return _checked(_absolute(start, end, Range(0, 0, "", at, compare, raw)))
    name = query.get("range", DEFAULT)
    if name not in LENGTHS:
        name = DEFAULT
    if note:
        note = f"{note} The last {_WORDS[name]} are shown instead."
    return _checked(Range(at - LENGTHS[name], at, name, at, compare, raw, note))


def _refusal(start: int, end: int, now: int) -> str:
    """Return why an absolute range cannot be shown at all; "" if it can."""
    if end <= start:
        return "This range is empty: its end is not after its start."
    if start >= now:
        return "This range is in the future."
    return "The longest range is 10 years." if end - start > LONGEST_SECONDS else ""


def _absolute(start: int, end: int, asked: Range) -> Range:
    """Return an absolute range, which ends now at the latest and is not too short."""
    notes = []
    if end > asked.now + CLOCK_SECONDS:
        notes.append("The end of this range is in the future: shown up to now.")
    end = min(end, asked.now)
    if end - start < SHORTEST_SECONDS:
        start = end - SHORTEST_SECONDS
        notes.append("The shortest range is 5 minutes.")
    return replace(asked, start=start, end=end, note=" ".join(notes))


def _checked(chosen: Range) -> Range:
    """Return the range without a comparison or samples that it is too early or too wide for."""
    return replace(
        chosen,
        compare=chosen.compare if chosen.start >= chosen.offset else "",
        raw=chosen.raw and chosen.may_be_raw,
    )


def comparisons(chosen: Range) -> list[tuple[str, str, bool]]:
    """Return (query, words, whether it is chosen) of everything to compare a range with."""
    return [
        (replace(chosen, compare=name).query, TITLES.get(name, "off"), name == chosen.compare)
        for name in ("", *OFFSETS)
    ]


def choices(chosen: Range) -> list[tuple[str, str, bool]]:
    """Return (name, words, whether it is chosen) of the named ranges."""
    return [(name, _WORDS[name], name == chosen.name) for name in LENGTHS]


def _instant(text: str) -> int | None:
    """Return Unix seconds from Unix seconds or an ISO time (UTC if it has no zone)."""
    if text.isascii() and text.isdigit() and len(text) <= 11:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0, int(at.timestamp()))
