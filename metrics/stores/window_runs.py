"""The ledger in short: windows that came in time are joined into runs, the rest stay single.

A ledger has 52,000 windows a year, nearly all of which are complete. Those are added up by the
database; only the others are read. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from metrics.series.windows import Window


class Sums(NamedTuple):
    """Plain windows that begin within a range, added up; all 0 if there are none."""

    first: int  # the earliest start
    last: int  # the latest end
    seconds: int  # the sum of their lengths
    got: int
    expected: int
    attempts: int  # the maximum


def is_plain(window: Window) -> bool:
    """Return whether all of a window's minutes came in time."""
    return window.state == "done" and window.filled_at is None and not window.reason


def runs(
    odd: Sequence[Window],
    start: int,
    end: int,
    *,
    sums: Callable[[int, int], Sums],
    windows: Callable[[int, int], Iterable[Window]],
) -> list[Window]:
    """Return the ledger of ``[start, end)``, with consecutive plain windows joined.

    Args:
        odd: the windows that are not plain, ascending.
        start: start of the first wanted window, plain or not, in Unix seconds.
        end: end of the range in Unix seconds, exclusive.
        sums: adds up the plain windows that begin within a range.
        windows: returns the plain windows that begin within a range, ascending.
    """
    found: list[Window] = []
    at = start
    for window in odd:
        found += _plain(at, window.start, sums, windows)
        found.append(window)
        at = max(at, window.end)
    return found + _plain(at, end, sums, windows)


def _plain(
    start: int,
    end: int,
    sums: Callable[[int, int], Sums],
    windows: Callable[[int, int], Iterable[Window]],
) -> list[Window]:
    """Return the plain windows of a range as one, or as they are where time is missing."""
    if start >= end:
        return []
    total = sums(start, end)
    if total.seconds == 0:
        return []
    if total.seconds == total.last - total.first:
        return [
            Window(
                total.first, total.last, "done", total.got, total.expected, total.attempts, "", "",
                None,
            )
        ]  # fmt: skip
    return list(windows(start, end))
