"""The ledger in a few lines: what plainly came in time is told as runs, all else line by line.

A ledger has 52,000 lines a year, nearly all of which say that all is well. They are added up where
they are; only the others are read. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from metrics.series.windows import Window


class Sums(NamedTuple):
    """Plain lines that begin within a stretch, added up; all 0 if there are none."""

    first: int  # the earliest start
    last: int  # the latest end
    seconds: int  # their lengths together
    got: int
    expected: int
    attempts: int  # the most of any


def is_plain(line: Window) -> bool:
    """Return whether a line says only that its minutes came in time."""
    return line.state == "done" and line.filled_at is None and not line.reason


def runs(
    odd: Sequence[Window],
    start: int,
    end: int,
    *,
    sums: Callable[[int, int], Sums],
    lines: Callable[[int, int], Iterable[Window]],
) -> list[Window]:
    """Return the ledger of ``[start, end)``, plain lines that follow one another as one.

    Args:
        odd: the lines that are not plain, ascending.
        start: Unix time; of the first line that is wanted, plain or not.
        end: Unix time.
        sums: adds up the plain lines that begin within a stretch.
        lines: returns them one by one, ascending.
    """
    found: list[Window] = []
    at = start
    for line in odd:
        found += _plain(at, line.start, sums, lines)
        found.append(line)
        at = max(at, line.end)
    return found + _plain(at, end, sums, lines)


def _plain(
    start: int,
    end: int,
    sums: Callable[[int, int], Sums],
    lines: Callable[[int, int], Iterable[Window]],
) -> list[Window]:
    """Return the plain lines of a stretch as one, or as they are where time is missing between."""
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
    return list(lines(start, end))
