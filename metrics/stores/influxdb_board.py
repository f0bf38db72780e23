"""The board: stored rows of one cluster that a write reads, compares and changes.

InfluxDB knows no condition on a write, so the rule that a row over less never replaces one over
more is kept here: read, compare, write what differs. :func:`metrics.stores.influxdb_index.writing`
sees to it that nobody else writes the cluster meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from metrics.catalog import Kind
from metrics.stores.base import SeriesKey
from metrics.stores.influxdb_buckets import Places
from metrics.stores.influxdb_client import Influx
from metrics.stores.influxdb_flux import Points, merged, of_cluster, points
from metrics.stores.influxdb_rows import Cells, Values, cells_of, line, line_head, values_of

Row = tuple[int, Cells]


class Board:
    """Rows of one cluster, as far as they were loaded."""

    def __init__(self, influx: Influx, places: Places, cluster: UUID) -> None:
        self._influx = influx
        self._places = places
        self._cluster = cluster
        self._old: dict[str, Points] = defaultdict(dict)
        self._new: dict[str, dict[SeriesKey, dict[int, Row]]] = defaultdict(dict)
        self._read: dict[tuple[str, SeriesKey, int], Row] = {}

    def load(self, tier: str, kinds: Iterable[Kind], starts: Iterable[int], width: int) -> None:
        """Read what is stored within the spans ``[start, start + width)``."""
        for first, end in _spans(starts, width):
            for (bucket, start), some in self._by_bucket(tier, kinds, first).items():
                if start < end:
                    query = of_cluster(self._cluster, some, start, end)
                    found = points(self._influx, bucket, tier, query)
                    self._old[tier] = merged([self._old[tier], found])

    def _by_bucket(
        self, tier: str, kinds: Iterable[Kind], first: int
    ) -> dict[tuple[str, int], list[Kind]]:
        found: dict[tuple[str, int], list[Kind]] = defaultdict(list)
        for kind in kinds:
            for sight in self._places.sights(kind, tier, first):
                found[sight.bucket, sight.start].append(kind)
        return found

    def get(self, tier: str, key: SeriesKey, ts: int) -> Row | None:
        """Return a row: as it was put, else as it is stored."""
        row = self._new[tier].get(key, {}).get(ts)
        if row is not None:
            return row
        values = self._old[tier].get(key, {}).get(ts)
        if values is None:
            return None
        row = self._read.get((tier, key, ts))
        if row is None:
            row = self._read[tier, key, ts] = cells_of(tier, values)
        return row

    def put(self, tier: str, key: SeriesKey, ts: int, n: int, cells: Cells) -> None:
        """Put a row, unless one over more is there."""
        known = self.get(tier, key, ts)
        if known is None or n >= known[0]:
            self._new[tier].setdefault(key, {})[ts] = (n, cells)

    def rows_at(self, tier: str, kind: Kind, ts: int) -> list[Row]:
        """Return the rows of all series of a kind at one time."""
        keys = {key for key in (*self._old[tier], *self._new[tier]) if key.kind == kind}
        found = (self.get(tier, key, ts) for key in keys)
        return [row for row in found if row is not None]

    def flush(self, now: float) -> int:
        """Write all rows that differ from what is stored; return how many are too old to be kept.

        The finest tier goes first: until the last line is written the caller's watermark stays,
        so that an interrupted write is repeated.
        """
        too_old = 0
        for tier in ("1m", "10m", "1h"):
            lines: dict[str, list[bytes]] = defaultdict(list)
            for key, rows in self._new[tier].items():
                horizon = self._places.horizon(key.kind, tier, now)
                head, old = line_head(str(self._cluster), key), self._old[tier].get(key, {})
                for ts, (n, cells) in rows.items():
                    if ts < horizon:
                        too_old += 1
                        continue
                    made = line(head, key, tier, ts, values_of(tier, n, cells), old.get(ts))
                    if made:
                        lines[self._places.bucket(key.kind, tier)].append(made)
            for bucket, some in lines.items():
                self._influx.write(bucket, some)
        return too_old


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


__all__ = ["Board", "Row", "Values"]
