"""Which series may be among the largest of a range, found without adding up all of them.

A series whose mean (or highest value) over a range is among the largest has at least one bucket
that is as large. So the largest of one moment give a bound, and only series that reach it anywhere
in the range are added up: about a hundred of 30,000 pods. Only for ranges that are in a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable

from metrics.series.catalog import TIERS, Kind
from metrics.series.rollups import bucket_start
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.sealed import SPANS
from metrics.stores.sqlite.series import sid_range

_CANDIDATES = 500
"""With more candidates than this plus ten per wanted series, adding up all is faster."""

Sums = tuple[int, int, int, int | None]
"""sid, n, total, highest of a series."""


class Bound:
    """One query of the largest series, and the SQL for its field and tier."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        kind: Kind,
        field: str,
        tier: str,
        span: tuple[int, int],
        by: str,
    ) -> None:
        self._connection = connection
        self._kind: Kind = kind
        self._tier, self._span, self._by = tier, span, by
        self._table = f"{kind}_{tier}"
        if tier == "1m":
            self._sums = f"count({field}), sum({field}), max(coalesce({field}_h, {field}))"
            self._value = field if by == "mean" else f"coalesce({field}_h, {field})"
        else:
            self._sums = f"sum({field}_n), sum({field}_s), max({field}_h)"
            self._value = f"CAST({field}_s AS REAL) / {field}_n" if by == "mean" else f"{field}_h"

    def is_plain(self, number: int) -> bool:
        """Return whether all rows of a cluster in the range are in the table."""
        key = (number, schema.KIND_NUMBERS[self._kind], TIERS[self._tier])
        start, end = self._span
        (other,) = self._connection.execute(
            "SELECT EXISTS(SELECT 1 FROM chunk WHERE cluster = ? AND kind = ? AND tier = ?"
            " AND t0 > ? AND t0 < ? AND NOT damaged) OR EXISTS(SELECT 1 FROM open_bucket"
            " WHERE cluster = ? AND kind = ? AND tier = ? AND ts >= ? AND ts < ?)",
            (*key, start - SPANS[self._tier], end, *key, start, end),
        ).fetchone()
        return not other

    def reaching(self, numbers: Collection[int], limit: int) -> list[Sums] | None:
        """Return the sums of all series that reach the bound anywhere in the range.

        Args:
            numbers: numbers of clusters, all of them plain.
            limit: number of wanted series, >= 1.

        Returns:
            None if so many series reach it that adding up all is faster.
        """
        times = self._times()
        if not times or not numbers:
            return []
        largest = self._largest(numbers, times[-1], 2 * limit)
        worth = sorted((self._worth(entry) for entry in self._added(largest, times)), reverse=True)
        if len(worth) < limit:
            return None
        bound = worth[limit - 1]
        bound -= abs(bound) * 1e-9 + 1  # quotients are as exact as a float is
        reaching: set[int] = set()
        own = set(numbers)
        query = (
            f"SELECT sid FROM {self._table}"  # noqa: S608 - our own names
            f" WHERE ts = ? AND sid BETWEEN ? AND ? AND {self._value} >= ?"
        )
        for low, high in _ranges(numbers):
            for ts in times:
                rows = self._connection.execute(query, (ts, low, high, bound))
                reaching.update(sid for (sid,) in rows if sid >> schema.SID_BITS in own)
                if len(reaching) > _CANDIDATES + 10 * limit:
                    return None
        return self._added(reaching, times)

    def _worth(self, entry: Sums) -> float:
        _, n, total, high = entry
        if self._by == "mean":
            return total / n
        return float("-inf") if high is None else high

    def _times(self) -> range:
        """Return the bucket starts of the range that the table can have."""
        step = TIERS[self._tier]
        oldest, newest = self._connection.execute(
            f"SELECT (SELECT min(ts) FROM {self._table}), (SELECT max(ts) FROM {self._table})"  # noqa: S608
        ).fetchone()
        if oldest is None:
            return range(0)
        first = max(bucket_start(self._span[0] + step - 1, step), oldest)
        return range(first, min(self._span[1], newest + step), step)

    def _largest(self, numbers: Iterable[int], ts: int, limit: int) -> list[int]:
        """Return the known series with the largest values at one moment."""
        found: list[tuple[float, int]] = []
        query = (
            f"SELECT {self._value}, sid FROM {self._table}"  # noqa: S608 - our own names
            f" WHERE ts = ? AND sid BETWEEN ? AND ? AND {self._value} IS NOT NULL"
            " ORDER BY 1 DESC LIMIT ?"
        )
        for number in numbers:
            found += self._connection.execute(query, (ts, *sid_range(number), limit))
        sids = [sid for _, sid in sorted(found, reverse=True)[:limit]]
        # Forgotten series still have rows; they are not shown, and must not raise the bound.
        known = "SELECT EXISTS(SELECT 1 FROM series WHERE sid = ?)"
        return [sid for sid in sids if self._connection.execute(known, (sid,)).fetchone()[0]]

    def _added(self, sids: Iterable[int], times: range) -> list[Sums]:
        """Return the sums of series over the range; each has a value."""
        within = ", ".join(map(str, times))
        query = (
            f"SELECT sid, {self._sums} FROM {self._table}"  # noqa: S608 - our own names
            f" WHERE ts IN ({within}) AND sid = ?"
        )
        rows = (self._connection.execute(query, (sid,)).fetchone() for sid in sids)
        return [row for row in rows if row[1]]


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the series numbers of clusters as few ranges: neighbours together."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        low, high = sid_range(number)
        if found and found[-1][1] + 1 == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found
