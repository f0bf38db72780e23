"""The merge buffer: stored rows of one cluster that a write reads, compares and changes.

InfluxDB has no conditional writes, so the rule that a row with a smaller n never replaces one with
a larger n is enforced here: read, compare, write what differs. The lock
:func:`metrics.stores.influxdb.ledger.writing` excludes other writers of the cluster meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from uuid import UUID

from metrics.series.catalog import TIERS, Kind
from metrics.series.rows import SeriesKey
from metrics.stores.influxdb.buckets import ClusterBuckets
from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.flux import LAST_SECOND, Points, merged, of_cluster, points
from metrics.stores.influxdb.names import NOTHING
from metrics.stores.influxdb.recent import Recent
from metrics.stores.influxdb.rows import Cells, Values, cells_of, line, line_head, values_of

Row = tuple[int, Cells]

REMEMBERED_SECONDS = 2 * 3600
"""Older rows are read when they are needed and not cached: backfills."""


class MergeBuffer:
    """Rows of one cluster, as far as they were loaded.

    Args:
        influx: the InfluxDB that stores them.
        cluster_buckets: the buckets of the cluster's rows.
        cluster: the cluster's id.
        recent: the cache of its newest rows.
        now: current Unix time in seconds.
    """

    def __init__(
        self,
        influx: Influx,
        cluster_buckets: ClusterBuckets,
        cluster: UUID,
        recent: Recent,
        now: float,
    ) -> None:
        self._influx = influx
        self._cluster_buckets = cluster_buckets
        self._cluster = cluster
        self._recent = recent
        self._now = int(now)
        self._old: dict[str, Points] = defaultdict(dict)
        self._new: dict[str, dict[SeriesKey, dict[int, Row]]] = defaultdict(dict)
        self._read: dict[tuple[str, SeriesKey, int], Row] = {}

    def catch_up(self) -> dict[SeriesKey, set[int]]:
        """Read and cache the minutes that other processes wrote; return their times by series."""
        first, kinds = self._recent.catch_up(self._now)
        found = self._query("1m", kinds, first, LAST_SECOND) if kinds else {}
        for key, rows in found.items():
            for ts, values in rows.items():
                self._recent.put("1m", key, ts, values)
        return {key: set(rows) for key, rows in found.items()}

    def remember(self) -> None:
        """Treat the buffered rows as stored: other processes have written them already."""
        for tier, series in self._new.items():
            for key, rows in series.items():
                for ts, (n, cells) in rows.items():
                    old = self._stored(tier, key, ts)
                    self._recent.put(tier, key, ts, _after_write(values_of(tier, n, cells), old))
        self._new.clear()
        self._read.clear()

    def load(self, tier: str, kinds: Sequence[Kind], starts: Collection[int], width: int) -> None:
        """Read the stored rows of the spans ``[start, start + width)`` that are not cached."""
        first = min(starts, default=0)
        unknown: list[Kind] = []
        older: dict[int, list[Kind]] = defaultdict(list)
        for kind in kinds:
            since = self._recent.since(tier, kind)
            if since is None and first >= self._now - REMEMBERED_SECONDS:
                unknown.append(kind)
            elif since is None or first < since:
                older[LAST_SECOND if since is None else since].append(kind)
        if unknown:
            found = self._query(tier, unknown, first, LAST_SECOND)
            self._recent.learn(tier, unknown, first, found)
        for until, some in older.items():
            for start, end in _spans(starts, width):
                found = self._query(tier, some, start, min(end, until))
                self._old[tier] = merged([self._old[tier], found])

    def _query(self, tier: str, kinds: Sequence[Kind], start: int, end: int) -> Points:
        """Return the rows of kinds in ``[start, end)`` from all buckets that have some."""
        read_ranges: dict[tuple[str, int], list[Kind]] = defaultdict(list)
        for kind in kinds:
            for read_range in self._cluster_buckets.read_ranges(kind, tier, start):
                read_ranges[read_range.bucket, read_range.start].append(kind)
        found: Points = {}
        for (bucket, begin), some in read_ranges.items():
            if begin < end:
                query = of_cluster(self._cluster, some, begin, end)
                found = merged([found, points(self._influx, bucket, tier, query)])
        return found

    def get(self, tier: str, key: SeriesKey, ts: int) -> Row | None:
        """Return a row: the buffered one, else the stored one."""
        row = self._new[tier].get(key, {}).get(ts)
        if row is not None:
            return row
        row = self._read.get((tier, key, ts))
        if row is None:
            values = self._stored(tier, key, ts)
            if values is None:
                return None
            row = self._read[tier, key, ts] = cells_of(tier, values)
        return row

    def put(self, tier: str, key: SeriesKey, ts: int, n: int, cells: Cells) -> None:
        """Buffer a row, unless one with a larger n exists."""
        known = self.get(tier, key, ts)
        if known is None or n >= known[0]:
            self._new[tier].setdefault(key, {})[ts] = (n, cells)

    def rows_at(self, tier: str, kind: Kind, ts: int) -> list[Row]:
        """Return the rows of all series of a kind at one time."""
        keys = {key for key in (*self._old[tier], *self._new[tier]) if key.kind == kind}
        keys.update(self._recent.keys_at(tier, kind, ts))
        found = (self.get(tier, key, ts) for key in keys)
        return [row for row in found if row is not None]

    def flush(self) -> int:
        """Write all rows that differ from the stored ones; return how many are too old to be kept.

        The finest tier goes first: the caller's watermark stays until the last line is written, so
        that an interrupted write is repeated.
        """
        too_old = 0
        for tier in TIERS:
            lines: dict[str, list[bytes]] = defaultdict(list)
            for key, rows in self._new[tier].items():
                horizon = self._cluster_buckets.horizon(key.kind, tier, self._now)
                whole = self._cluster_buckets.is_moving(key.kind, tier)
                head = line_head(str(self._cluster), key)
                for ts, (n, cells) in rows.items():
                    if ts < horizon:
                        too_old += 1
                        continue
                    new, old = values_of(tier, n, cells), self._stored(tier, key, ts)
                    made = line(head, key, tier, ts, new, old, whole=whole)
                    if made:
                        lines[self._cluster_buckets.bucket(key.kind, tier)].append(made)
                        self._recent.put(tier, key, ts, _after_write(new, old))
            for bucket, some in lines.items():
                self._influx.write(bucket, some)
        newest = max((max(rows) for rows in self._new["1m"].values()), default=None)
        if newest is not None:
            self._recent.forget_old(newest)
        return too_old

    def _stored(self, tier: str, key: SeriesKey, ts: int) -> Values | None:
        values = self._recent.get(tier, key, ts)
        return self._old[tier].get(key, {}).get(ts) if values is None else values


def _after_write(new: Values, old: Values | None) -> Values:
    """Return a point after a write: a field that it once had is never absent again."""
    if old is None:
        return new
    return [
        NOTHING if value is None and stored is not None else value
        for value, stored in zip(new, old, strict=True)
    ]


def _spans(starts: Iterable[int], width: int) -> Iterator[tuple[int, int]]:
    """Join spans that touch each other."""
    first = end = -1
    for start in sorted(set(starts)):
        if first >= 0 and start <= end:
            end = start + width
            continue
        if first >= 0:
            yield first, end
        first, end = start, start + width
    if first >= 0:
        yield first, end
