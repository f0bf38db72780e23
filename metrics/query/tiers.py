"""The choice of the tier and the buckets for a range. Pure."""

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
    """Buckets of ``step`` seconds from ``start`` to ``end``, merged from those of ``tier``."""

    tier: str
    step: int  # a multiple of the tier's width
    start: int  # the requested start, rounded down to a bucket
    end: int  # the requested end, rounded up to a bucket

    @property
    def count(self) -> int:
        """Return how many buckets there are."""
        return (self.end - self.start) // self.step


def select(
    start: int, end: int, *, points: int, now: int, reach: Mapping[str, int], finest: int = 0
) -> Selection:
    """Choose the finest tier that still has the whole range in at most ``points`` buckets.

    If no tier is coarse enough, the coarsest one that has the range is merged into wider buckets. A
    range older than all retention gets the longest-kept tier.

    Args:
        start: start of the range in Unix seconds.
        end: end of the range in Unix seconds, after ``start``.
        points: maximum number of buckets; clamped to 2..1,440.
        now: current Unix time in seconds, from which retention counts.
        reach: tier name -> how far back it goes, in seconds.
        finest: bucket width in seconds; narrower tiers do not have all of the range. 0: all do.

    Raises:
        ValueError: the range is empty.
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
    """Return the tiers that go back to ``start``, the finest first; the longest-kept if none.

    ``finest`` is as in :func:`select`.
    """
    wide = [tier for tier in TIERS if TIERS[tier] >= finest]
    # max() returns the first of equal ones: the finest of the longest-kept.
    return [tier for tier in wide if start >= now - reach[tier]] or [
        max(wide, key=lambda tier: reach[tier])
    ]


def _aligned(tier: str, step: int, start: int, end: int) -> Selection:
    return Selection(tier, step, bucket_start(start, step), bucket_start(end + step - 1, step))


def expected_minutes(columns: Columns, step: int, *, born: int | None, until: int) -> list[int]:
    """Return how many minutes each bucket could have, at least 1.

    Args:
        columns: buckets of ``step`` seconds.
        step: width of a bucket in seconds.
        born: first minute of the series in Unix seconds: earlier ones are not expected; None if not
            known.
        until: end of the data that can exist, in Unix seconds; the open bucket ends there.
    """
    found = []
    for t in columns.t:
        since = max(t, born) if born is not None else t
        found.append(max(1, (min(t + step, until) - since) // 60))
    return found
