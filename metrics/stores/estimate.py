"""An estimate of how many rows a range has, from its series. Pure.

A series counts from its first minute to its newest as if it never paused. For an exact count, a
store would have to read everything.
"""

from __future__ import annotations

from collections.abc import Iterable

from metrics.series.catalog import TIERS, Kind
from metrics.stores.copier import StoredSeries


def amount(
    series: Iterable[StoredSeries], kind: Kind, tier: str, start: int, end: int
) -> tuple[int, int | None]:
    """Return the approximate number of buckets in ``[start, end)``, and the oldest one's start.

    The oldest is None if there is none.
    """
    width = TIERS[tier]
    rows, oldest = 0, None
    for one in series:
        if one.key.kind != kind:
            continue
        first = max(one.first_ts - one.first_ts % width, -(-start // width) * width)
        last = min(one.last_ts, end - 1)
        if first <= last:
            rows += (last - first) // width + 1
            oldest = first if oldest is None else min(oldest, first)
    return rows, oldest
