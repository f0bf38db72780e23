"""Which rows of a live pull have a plausible time. Pure.

A clock that is far off, at a node or at the source, must not store values at wrong times, nor take
the place of future data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from metrics.connections.source_limits import AHEAD_SECONDS, OLDEST_SECONDS
from metrics.series.minute_columns import Minutes
from metrics.series.rows import MinuteRow
from metrics.series.source_answer import SourceAnswer


@dataclass(frozen=True, slots=True)
class Rejected:
    """How many rows of an answer were left out for their time, and which, as text."""

    rows: int
    text: str


def within_bounds(answer: SourceAnswer, now: float) -> tuple[SourceAnswer, Rejected | None]:
    """Return a live answer without rows older than 24 hours or more than 5 minutes ahead.

    Args:
        answer: the source's answer; rows that the source left out for their time are counted too.
        now: our clock in Unix seconds.

    Returns:
        The answer to store, and the rejected rows; None if there are none.
    """
    low, high = now - OLDEST_SECONDS, now + AHEAD_SECONDS
    first, last = _span(answer.rows)
    if low <= first and last <= high and not answer.rejected:
        return answer, None
    rows = [row for row in answer.rows if low <= row.ts <= high]
    off = [row.ts for row in answer.rows if not low <= row.ts <= high]
    alive = frozenset(minute for minute in answer.minutes_alive if low <= minute <= high)
    count = len(off) + answer.rejected
    where = f", the furthest by {_furthest(off, now)}" if off else ""
    text = f"{count} rows were left out because their time is far off{where}"
    return replace(answer, rows=rows, minutes_alive=alive), Rejected(count, text)


def ahead_note(answer: SourceAnswer, now: float) -> str:
    """Return a note on data that is ahead of our clock, which no pull requests; else ""."""
    if answer.newest_end is None or answer.newest_end <= now + AHEAD_SECONDS:
        return ""
    minutes = round((answer.newest_end - now) / 60)
    return f"its newest data is {minutes} min ahead of our clock, and is read when its time comes"


def _span(rows: Sequence[MinuteRow]) -> tuple[float, float]:
    """Return the first and the last time of rows; an empty span if there are none."""
    if isinstance(rows, Minutes):  # in columns, without creating rows
        times = [edge for t in rows.tables if t.times for edge in (min(t.times), max(t.times))]
    else:
        times = [row.ts for row in rows]
    return min(times, default=inf), max(times, default=-inf)


def _furthest(times: list[int], now: float) -> str:
    """Return the largest distance from now in words."""
    worst = max(times, key=lambda time: abs(time - now))
    seconds = round(abs(worst - now))
    amount = f"{seconds // 3600} h" if seconds >= 7200 else f"{seconds // 60} min"
    return f"{amount} {'ahead' if worst > now else 'back'}"
