"""Reads of the InfluxDB store's points, by Flux."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Literal
from uuid import UUID

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind
from metrics.series.rollups import bucket_start
from metrics.series.rows import Columns, SeriesKey
from metrics.stores.copier import StoredRow
from metrics.stores.errors import StoreError
from metrics.stores.influxdb.buckets import Buckets, ClusterBuckets, ReadRange
from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.flux import (
    Points,
    Query,
    merged,
    of_cluster,
    of_series,
    points,
    records,
    unix,
    whole,
)
from metrics.stores.influxdb.names import NOTHING, column_indexes, field_columns, untag
from metrics.stores.influxdb.rows import Values, cells_of
from metrics.stores.reader import TopRow

SCAN_BUCKETS = 60
"""Bucket starts that one read of whole rows covers: an hour of minutes, ten hours, 2.5 days."""
BLOCKS_BETWEEN_CHECKS = 10
CLUSTERS_IN_A_QUERY = 50


def check_field(kind: Kind, field: str, tier: str) -> None:
    """Check that the catalogue has a field and tier, before they are used in a query.

    Raises:
        StoreError: it does not.
    """
    if field not in FIELD_NAMES[kind] or tier not in TIERS:
        msg = f"no {kind} field {field} in tier {tier}"
        raise StoreError(msg)


class Reader:
    """Reads of one InfluxDB; holds no state."""

    def __init__(self, influx: Influx, buckets: Buckets) -> None:
        self._influx = influx
        self._buckets = buckets

    def fields(
        self, cluster: UUID, key: SeriesKey, fields: Sequence[str], tier: str, start: int, end: int
    ) -> dict[str, Columns]:
        """See :meth:`metrics.stores.reader.MetricReader.read_fields`."""
        for field in fields:
            check_field(key.kind, field, tier)
        found: Points = {}
        for read_range in self._read_ranges(cluster, key.kind, tier, start, end):
            query = of_series(cluster, key, read_range.start, end)
            found = merged([found, self._points(read_range, tier, query, fields)])
        rows = found.get(key, {})
        return {field: _columns(rows, key.kind, field, tier) for field in fields}

    def many(
        self, cluster: UUID, kind: Kind, field: str, tier: str, start: int, end: int
    ) -> dict[SeriesKey, Columns]:
        """See :meth:`metrics.stores.reader.MetricReader.read_many`."""
        check_field(kind, field, tier)
        found: Points = {}
        for read_range in self._read_ranges(cluster, kind, tier, start, end):
            query = of_cluster(cluster, [kind], read_range.start, end)
            found = merged([found, self._points(read_range, tier, query, [field])])
        columns = {key: _columns(rows, kind, field, tier) for key, rows in found.items()}
        return {key: column for key, column in columns.items() if column.t}

    def rows(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> Iterator[StoredRow]:
        """See :meth:`metrics.stores.copier.MetricCopier.scan`; series by series within a block."""
        for begin, until in self._blocks(cluster, kind, tier, start, end):
            found: Points = {}
            for read_range in self._read_ranges(cluster, kind, tier, begin, until):
                query = of_cluster(cluster, [kind], read_range.start, until)
                found = merged([found, points(self._influx, read_range.bucket, tier, query)])
            flat = [(ts, key, values) for key, rows in found.items() for ts, values in rows.items()]
            for ts, key, values in sorted(flat, key=lambda row: row[:2]):
                yield StoredRow(ts, key, *cells_of(tier, values))

    def times(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> Iterator[tuple[int, int]]:
        """Yield the times of rows, ascending, each with how many there are."""
        for begin, until in self._blocks(cluster, kind, tier, start, end):
            found: dict[int, set[tuple[str, str]]] = defaultdict(set)
            for read_range in self._read_ranges(cluster, kind, tier, begin, until):
                query = of_cluster(cluster, [kind], read_range.start, until).where("_field", "n")
                query.keep("_time", "ns", "name")
                for at, record in records(self._influx, read_range.bucket, query):
                    name = record[at["ns"]], record[at["name"]]
                    found[unix(record[at["_time"]])].add(name)
            for ts in sorted(found):
                yield ts, len(found[ts])

    def _blocks(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> Iterator[tuple[int, int]]:
        """Yield the blocks that may have rows; longer spans without any are skipped."""
        width = SCAN_BUCKETS * TIERS[tier]
        at, known_until = start, start
        while at < end:
            if at >= known_until:
                span = self.extent(cluster, kind, tier, at, end)
                if span is None:
                    return
                # One query for several blocks: a year without rows costs one query.
                at, known_until = max(at, span[0]), max(at, span[0]) + BLOCKS_BETWEEN_CHECKS * width
                end = min(end, span[1])
            until = min(bucket_start(at, width) + width, end)
            yield at, until
            at = until

    def extent(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> tuple[int, int] | None:
        """Return the times of the oldest row and just after the newest one; None for none."""
        ends: list[int] = []
        for read_range in self._read_ranges(cluster, kind, tier, start, end):
            for step in ("first()", "last()"):
                query = of_cluster(cluster, [kind], read_range.start, end).where("_field", "n")
                query.then(step).keep("_time")
                for at, record in records(self._influx, read_range.bucket, query):
                    ends.append(unix(record[at["_time"]]))
        return (min(ends), max(ends) + 1) if ends else None

    def top(
        self,
        clusters: Iterable[UUID],
        kind: Kind,
        field: str,
        tier: str,
        start: int,
        end: int,
        limit: int,
        by: Literal["mean", "max"],
    ) -> list[TopRow]:
        """See :meth:`metrics.stores.reader.MetricReader.top`; InfluxDB computes the sums."""
        check_field(kind, field, tier)
        rows: list[TopRow] = []
        alike: dict[ReadRange, list[UUID]] = defaultdict(list)
        for cluster in set(clusters):
            read_ranges = self._read_ranges(cluster, kind, tier, start, end)
            if len(read_ranges) == 1:
                alike[read_ranges[0]].append(cluster)
            elif read_ranges:
                rows += self._summed(cluster, kind, field, tier, start, end)
        for read_range, some in alike.items():
            for at in range(0, len(some), CLUSTERS_IN_A_QUERY):
                part = some[at : at + CLUSTERS_IN_A_QUERY]
                rows += self._top_of(read_range, part, kind, field, tier, end)
        if by == "max":
            rows = [row for row in rows if row.high is not None]
        rows.sort(key=lambda row: (row.key, row.cluster))
        rows.sort(key=lambda row: _rank(row, by), reverse=True)
        return rows[: max(0, limit)]

    def _top_of(
        self,
        read_range: ReadRange,
        clusters: Sequence[UUID],
        kind: Kind,
        field: str,
        tier: str,
        end: int,
    ) -> list[TopRow]:
        """Request sums, counts and highest values of every series at once.

        Each starts with its own ``from``: steps shared by two are not evaluated in the storage.
        """
        query = Query(read_range.start, end).where("_measurement", kind).above(NOTHING)
        query.where("cluster", *(str(cluster) for cluster in clusters))
        *added, _, high = field_columns(field, tier)
        wanted = {"sum": added, "max": [*added, high] if tier == "1m" else [high]}
        if tier == "1m":
            wanted["count"] = added
        texts = []
        for step, fields in wanted.items():
            part = query.copy().where("_field", *fields)
            part.then(f"{step}()").keep("cluster", "ns", "name", "_field", "_value")
            texts.append(part.then("group()").then(f'yield(name: "{step}")').flux)
            query.params.update(part.params)
        text = "\n".join(texts)
        found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
        for at, record in records(self._influx, read_range.bucket, query, text):
            series = record[at["cluster"]], record[at["ns"]], record[at["name"]]
            what = f"{record[at['result']]} {record[at['_field']]}"
            found[series][what] = whole(self._influx, read_range.bucket, record[at["_value"]])
        rows = []
        for (cluster, ns, name), sums in found.items():
            made = _top_row(field, tier, sums)
            if made is not None:
                rows.append(TopRow(UUID(cluster), SeriesKey(kind, untag(ns), untag(name)), *made))
        return rows

    def _summed(
        self, cluster: UUID, kind: Kind, field: str, tier: str, start: int, end: int
    ) -> list[TopRow]:
        """Return every series of a cluster whose rows are currently in two buckets."""
        found = []
        for key, columns in self.many(cluster, kind, field, tier, start, end).items():
            highs = [high for high in columns.high if high is not None]
            high = max(highs, default=None)
            found.append(TopRow(cluster, key, sum(columns.n), sum(columns.total), high))
        return found

    def _read_ranges(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> list[ReadRange]:
        if start >= end:
            return []
        found = ClusterBuckets.known(self._buckets, cluster).read_ranges(kind, tier, start)
        return [read_range for read_range in found if read_range.start < end]

    def _points(
        self, read_range: ReadRange, tier: str, query: Query, fields: Sequence[str]
    ) -> Points:
        if not fields:
            return {}
        names = [name for field in fields for name in field_columns(field, tier)]
        # While rows are moved, n decides between the rows of two buckets.
        return points(self._influx, read_range.bucket, tier, query.where("_field", "n", *names))


def _columns(rows: dict[int, Values], kind: Kind, field: str, tier: str) -> Columns:
    """Return one field of a series' rows; a bucket without the field is left out."""
    at = [column_indexes(kind, tier)[name] for name in field_columns(field, tier)]
    found = Columns([], [], [], [], [])
    for ts in sorted(rows):
        values = [None if rows[ts][index] == NOTHING else rows[ts][index] for index in at]
        n, total = (1, values[0]) if tier == "1m" else (values[0], values[1])
        if n is None or total is None:
            continue
        low, high = values[-2:]
        if tier == "1m":
            low, high = total if low is None else low, total if high is None else high
        found.t.append(ts)
        found.n.append(n)
        found.total.append(total)
        found.low.append(low)
        found.high.append(high)
    return found


def _top_row(field: str, tier: str, sums: dict[str, int]) -> tuple[int, int, int | None] | None:
    """Return n, total and high from InfluxDB's sums; None without any minute."""
    highs = [sums[f"max {name}"] for name in (f"{field}_h",) if f"max {name}" in sums]
    if tier == "1m":
        n, total = sums.get(f"count {field}", 0), sums.get(f"sum {field}", 0)
        highs += [sums[f"max {field}"]] if n else []
    else:
        n, total = sums.get(f"sum {field}_n", 0), sums.get(f"sum {field}_s", 0)
    return (n, total, max(highs, default=None)) if n else None


def _rank(row: TopRow, by: Literal["mean", "max"]) -> Fraction:
    if by == "max":
        return Fraction(row.high or 0)
    return Fraction(row.total, row.n)
