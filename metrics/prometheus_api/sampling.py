"""Stored buckets on the grid of a query. Pure.

A bucket's value is known at its end, so that is its sample's time. The value of a series at ``t``
combines all samples of ``(t - window, t]``, weighted by the minutes in them: wide steps show the
mean of the step, not a single minute of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metrics.prometheus_api.metric_names import Statistic
from metrics.query.tiers import tiers_holding
from metrics.series.catalog import TIERS
from metrics.series.rows import Columns

LOOKBACK_SECONDS = 300
"""How old the newest sample of an instant query may be."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The times of a query, in milliseconds since 1970.

    ``step_ms`` 0 is an instant query: one time, and the newest sample before it.
    """

    start_ms: int
    step_ms: int
    count: int

    @property
    def instant(self) -> bool:
        """Return whether the query is for a single time."""
        return self.step_ms == 0

    @property
    def end_ms(self) -> int:
        """Return the last time."""
        return self.start_ms + self.step_ms * (self.count - 1)

    def moved(self, by_ms: int) -> Grid:
        """Return the grid, ``by_ms`` earlier."""
        return Grid(self.start_ms - by_ms, self.step_ms, self.count)

    def part(self, first: int, count: int) -> Grid:
        """Return ``count`` times from the one with index ``first`` on; of an instant, itself."""
        return (
            self
            if self.instant
            else Grid(self.start_ms + first * self.step_ms, self.step_ms, count)
        )

    def window_ms(self, width: int) -> int:
        """Return how far back samples of ``width`` seconds count, in milliseconds."""
        if self.instant:
            return 1000 * max(LOOKBACK_SECONDS, width)
        return max(self.step_ms, 1000 * width)

    def reach(self, width: int) -> tuple[int, int]:
        """Return the range in which buckets of ``width`` seconds must be read, in Unix seconds."""
        first = (self.start_ms - self.window_ms(width)) // 1000 - width
        return max(0, first), self.end_ms // 1000 + 1


def choose_tier(grid: Grid, *, now: int, reach: Mapping[str, int], finest: int = 0) -> str:
    """Return the widest tier that is no wider than the step and still has the start.

    If there is none, the finest that has it; if nothing goes back that far, the longest-kept one.
    ``finest`` is as in :func:`metrics.query.tiers.select`.
    """
    tiers = tiers_holding(grid.start_ms // 1000, now=now, reach=reach, finest=finest)
    fitting = [tier for tier in tiers if 1000 * TIERS[tier] <= grid.step_ms]
    return fitting[-1] if fitting else tiers[0]


def place(columns: Columns, width: int, grid: Grid, statistic: Statistic) -> list[float | None]:
    """Return a value per time of the grid; None where there is no sample, or no known extreme.

    Args:
        columns: buckets of ``width`` seconds, ascending.
        width: width of a bucket in seconds.
        grid: the times of the query.
        statistic: which statistic of the samples: "mean", "min" or "max".
    """
    if statistic == "mean":
        return _means(columns, width, grid)
    return _extremes(columns, width, grid, statistic)


def _means(columns: Columns, width: int, grid: Grid) -> list[float | None]:
    counts, totals = [0] * grid.count, [0] * grid.count
    for t, n, total in zip(columns.t, columns.n, columns.total, strict=True):
        for at in _moments(t, width, grid):
            if grid.instant:
                counts[at], totals[at] = n, total
            else:
                counts[at] += n
                totals[at] += total
    return [total / n if n else None for total, n in zip(totals, counts, strict=True)]


def _extremes(columns: Columns, width: int, grid: Grid, statistic: Statistic) -> list[float | None]:
    found: list[float | None] = [None] * grid.count
    unknown: set[int] = set()  # if a part's extreme is unknown, so is the whole's
    pick = min if statistic == "min" else max
    values = columns.low if statistic == "min" else columns.high
    for t, value in zip(columns.t, values, strict=True):
        for at in _moments(t, width, grid):
            before = found[at]
            if value is None:
                unknown.add(at)
            elif before is None or grid.instant:
                found[at] = value
            else:
                found[at] = pick(before, value)
            if grid.instant and value is not None:
                unknown.discard(at)
    for at in unknown:
        found[at] = None
    return found


def _moments(t: int, width: int, grid: Grid) -> range:
    """Return the times for which the bucket at ``t`` counts, as indexes of the grid."""
    known = 1000 * (t + width) - grid.start_ms  # from then on, and for a window
    gone = known + grid.window_ms(width)
    if grid.instant:
        return range(1) if known <= 0 < gone else range(0)
    first = max(0, -(-known // grid.step_ms))
    return range(first, min(grid.count, -(-gone // grid.step_ms)))
