"""Which tier answers a range, and in which buckets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metrics.series.catalog import TIERS
from metrics.series.rollups import bucket_start
from metrics.series.rows import Columns

MAX_POINTS = 1_440
MIN_POINTS = 2
WIDEST = max(TIERS, key=lambda tier: TIERS[tier])


@dataclass(frozen=True, slots=True)
class Selection:
    """Buckets of ``step`` seconds from ``start`` to ``end``, made from the buckets of ``tier``."""

    tier: str
    step: int  # a whole multiple of the tier's width
    start: int  # the asked start, rounded down to a bucket
    end: int  # the asked end, rounded up to a bucket

    @property
    def count(self) -> int:
        """Return how many buckets there are."""
        return (self.end - self.start) // self.step


def select(
    start: int, end: int, *, points: int, now: int, reach: Mapping[str, int], finest: int = 0
) -> Selection:
    """Choose the finest tier that still holds the whole range in at most ``points`` buckets.

    Where no tier is coarse enough, the coarsest that holds the range is merged into wider
    buckets. A range that reaches back further than anything is kept gets the longest-kept tier.

    Args:
        start: Unix time.
        end: after ``start``.
        points: at most so many buckets; taken as 2 to 1,440.
        now: Unix time, from which retention counts.
        reach: tier name -> how far back it goes, in seconds.
        finest: tiers of narrower buckets, in seconds, do not have all of the range.

    Raises:
        ValueError: if the range is empty.
    """
    if start >= end:
        msg = "start must be before end"
        raise ValueError(msg)
    points = max(MIN_POINTS, min(points, MAX_POINTS))
    tiers = tiers_holding(start, now=now, reach=reach, finest=finest)
    for tier in tiers:
        selection = _aligned(tier, TIERS[tier], start, end)
        if selection.count <= points:
            return selection
    tier = tiers[-1]
    width = TIERS[tier]
    times = max(1, (end - start) // width // points)
    while (selection := _aligned(tier, width * times, start, end)).count > points:
        times += 1
    return selection


def tiers_holding(start: int, *, now: int, reach: Mapping[str, int], finest: int = 0) -> list[str]:
    """Return the tiers that reach back to ``start``, the finest first; the longest-kept if none.

    ``finest`` is as in :func:`select`.
    """
    wide = [tier for tier in TIERS if TIERS[tier] >= finest]
    # max() takes the first of equals: the finest of the longest-kept.
    return [tier for tier in wide if start >= now - reach[tier]] or [
        max(wide, key=lambda tier: reach[tier])
    ]


def _aligned(tier: str, step: int, start: int, end: int) -> Selection:
    return Selection(tier, step, bucket_start(start, step), bucket_start(end + step - 1, step))


def minutes_due(start: int, end: int, *, born: int | None, gone: int | None, until: int) -> int:
    """Return how many minutes of ``[start, end)`` a series could have, had none been missed.

    Args:
        start: Unix time.
        end: Unix time.
        born: first minute of the series; None for one that was never seen: it has none.
        gone: end of the series' last minute, if it is not there any more.
        until: end of what can be there of any series.
    """
    if born is None:
        return 0
    return max(0, min(end, until, until if gone is None else gone) - max(start, born)) // 60


def expected_minutes(columns: Columns, step: int, *, born: int | None, until: int) -> list[int]:
    """Return how many minutes each bucket could have, at least the one that it is there for.

    Args:
        columns: buckets of ``step`` seconds.
        step: in seconds.
        born: first minute of the series: earlier ones are not expected; None = not known.
        until: end of what can be there; the open bucket is expected up to here.
    """
    found = []
    for t in columns.t:
        since = max(t, born) if born is not None else t
        found.append(max(1, (min(t + step, until) - since) // 60))
    return found
