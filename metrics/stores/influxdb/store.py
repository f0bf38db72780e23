"""The InfluxDB 2 metric store: points in InfluxDB, everything else in Django's database.

``docs/stores.md`` describes its purpose and failures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal
from uuid import UUID

from django.db import transaction

from metrics.models.influxdb_store import MetricCluster, MetricPlace
from metrics.series.catalog import TIERS, Kind
from metrics.series.rows import Columns, SeriesKey
from metrics.series.windows import Position, Window
from metrics.stores import checksum
from metrics.stores.copier import StoredRow, StoredSeries
from metrics.stores.errors import StoreError
from metrics.stores.housekeeping import NO_BOUNDS
from metrics.stores.identity import StorePlace
from metrics.stores.influxdb import identity, proof
from metrics.stores.influxdb import ledger as index
from metrics.stores.influxdb import series as influxdb_series
from metrics.stores.influxdb.bucket_moves import Mover
from metrics.stores.influxdb.buckets import Buckets, ClusterBuckets, RetentionLookup
from metrics.stores.influxdb.client import Influx, Server
from metrics.stores.influxdb.merge import MergeBuffer
from metrics.stores.influxdb.read import Reader
from metrics.stores.influxdb.series import Memory, Session
from metrics.stores.influxdb.write import Writer, check
from metrics.stores.reader import LastRow, TopRow
from metrics.stores.writer import Batch, WriteResult

MOVE_SECONDS = 60
"""How long one call of :meth:`InfluxStore.maintain` moves rows between buckets."""
LOAD_ROWS = 5_000


class InfluxStore:
    """A :class:`~metrics.stores.base.MetricStore` in an InfluxDB 2 and Django's database.

    Safe to share between threads, and across a fork; several processes may write, one at a time per
    cluster.

    Args:
        server: the address and credentials.
        retention_seconds: returns how long each kind's tiers of a cluster are kept, in seconds.
        prefix: prefix of the buckets' names.
        clock: returns the current Unix time in seconds.
    """

    def __init__(
        self,
        server: Server,
        retention_seconds: RetentionLookup,
        *,
        prefix: str = "opscenter",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._influx = Influx(server)
        self._retention = retention_seconds
        self._clock = clock
        self._buckets = Buckets(self._influx, prefix)
        self._reader = Reader(self._influx, self._buckets)
        self._memory = Memory(clock)

    def write(self, cluster: UUID, stream: str, batch: Batch) -> WriteResult:
        """Write a batch: the points first, and once InfluxDB has them all, the index.

        On a :class:`StoreError` some points may be stored; writing the same batch again repairs it.
        """
        newest = check(batch)
        with index.writing(cluster) as row, index.translated():
            session = self._memory.begin(row)
            buffer = self._merge_buffer(session)
            writer = Writer(buffer, session)
            writer.catch_up()
            writer.minutes(batch.rows, batch, newest)
            writer.coarse(batch.coarse)
            too_old = buffer.flush()
            with transaction.atomic():
                session.save(None if batch.coarse else [row.ts for row in batch.rows])
                index.put_windows(row, stream, batch.windows)
                index.put_position(row, stream, batch.watermark, batch.head)
            self._memory.learn(session)
        detail = _detail(writer.refused, writer.skipped, session.problem, too_old)
        return WriteResult(writer.refused, writer.skipped, detail)

    def position(self, cluster: UUID, stream: str) -> Position:
        """Return the stream's position; both None before the first batch."""
        with index.translated():
            return index.position(cluster, stream)

    def windows(
        self, cluster: UUID, stream: str, start: int, end: int, *, states: Sequence[str] = ()
    ) -> list[Window]:
        """Return windows that overlap ``[start, end)``, ascending; only of ``states`` if given."""
        with index.translated():
            return index.windows(cluster, stream, start, end, states)

    def window_runs(self, cluster: UUID, stream: str, start: int, end: int) -> list[Window]:
        """Return the ledger, with windows that came in time joined; see the protocol."""
        with index.translated():
            return index.window_runs(cluster, stream, start, end)

    def read(
        self, cluster: UUID, key: SeriesKey, field: str, tier: str, start: int, end: int
    ) -> Columns:
        """Return one field's buckets with ``start <= t < end``."""
        return self.read_fields(cluster, key, [field], tier, start, end)[field]

    def read_fields(
        self, cluster: UUID, key: SeriesKey, fields: Sequence[str], tier: str, start: int, end: int
    ) -> dict[str, Columns]:
        """Return several fields of one series by one query."""
        with index.translated():
            return self._reader.fields(cluster, key, fields, tier, start, end)

    def read_many(
        self, cluster: UUID, kind: Kind, field: str, tier: str, start: int, end: int
    ) -> dict[SeriesKey, Columns]:
        """Return one field of every series of a kind that has data in the range."""
        with index.translated():
            return self._reader.many(cluster, kind, field, tier, start, end)

    def top(
        self,
        clusters: Iterable[UUID],
        kind: Kind,
        field: str,
        tier: str,
        start: int,
        end: int,
        *,
        limit: int,
        by: Literal["mean", "max"] = "mean",
    ) -> list[TopRow]:
        """Return the series of several clusters with the largest field over the range."""
        with index.translated():
            return self._reader.top(clusters, kind, field, tier, start, end, limit, by)

    def last(self, cluster: UUID, kind: Kind, *, since: int = 0) -> list[LastRow]:
        """Return the newest minute of each series of a kind with ``ts >= since``."""
        with index.translated():
            return influxdb_series.last(cluster, kind, since)

    def last_one(self, cluster: UUID, key: SeriesKey) -> LastRow | None:
        """Return the newest minute of one series; None if it was never seen."""
        with index.translated():
            return influxdb_series.last_one(cluster, key)

    def find(
        self,
        clusters: Iterable[UUID],
        kind: Kind,
        text: str,
        *,
        since: int = 0,
        limit: int = 100,
        order: str = "",
    ) -> list[tuple[UUID, LastRow]]:
        """Return series of several clusters by a part of their name."""
        with index.translated():
            return influxdb_series.find(clusters, kind, text, since=since, limit=limit, order=order)

    def first_seen(self, cluster: UUID, key: SeriesKey) -> int | None:
        """Return the first minute of a series ever stored; None if it was never seen."""
        with index.translated():
            return influxdb_series.first_seen(cluster, key)

    def expire(
        self, cluster: UUID, kind: Kind, tier: str, before: int, *, limit: int = 50_000
    ) -> int:
        """Hide buckets of a kind before ``before``, oldest first; about ``limit``.

        InfluxDB itself deletes them, a whole shard group at a time, when the bucket's retention
        ends: its deletes are slow.
        """
        with index.writing(cluster) as row, index.translated():
            place = MetricPlace.objects.filter(cluster=row, kind=kind, tier=tier).first()
            if place is None or before <= place.expired:
                return 0
            gone, until = 0, before
            for ts, count in self._reader.times(cluster, kind, tier, 0, before):
                if gone >= limit:
                    until = ts
                    break
                gone += count
            MetricPlace.objects.filter(pk=place.pk).update(expired=until)
            index.outdate(pk=row.pk)
            return gone

    def forget(self, cluster: UUID, before: int, by_kind: Mapping[Kind, int] = NO_BOUNDS) -> int:
        """Delete series, last values and ledger windows that ended before ``before``."""
        with index.writing(cluster) as row, index.translated():
            return index.forget(row, before, by_kind)

    def erase(self, cluster: UUID) -> None:
        """Delete everything of a cluster: hide it at once, then delete its points, then the rest.

        After a :class:`StoreError` it stays hidden; :meth:`maintain` tries again.
        """
        with index.translated():
            MetricCluster.objects.filter(cluster=cluster).update(erasing=True)
            if not MetricCluster.objects.filter(cluster=cluster).exists():
                return
        with index.writing(cluster, erasing=True) as row, index.translated():
            present = self._influx.buckets()
            for name in present:
                if name.startswith(f"{self._buckets.prefix}_"):
                    self._influx.delete(name, f'cluster="{cluster}"', 0, 1 << 33)
            with transaction.atomic():
                row.delete()

    def clusters(self) -> list[UUID]:
        """Return the ids of all clusters that the store knows."""
        with index.translated():
            return index.clusters()

    def series(self, cluster: UUID) -> list[StoredSeries]:
        """Return all series of a cluster, by kind, ns and name."""
        with index.translated():
            return influxdb_series.series(cluster)

    def put_series(self, cluster: UUID, series: Iterable[StoredSeries]) -> None:
        """Create or change series as read from another store, in one transaction."""
        with self._copying(cluster) as session:
            for entry in series:
                if session.seen(entry.key, entry.first_ts):
                    session.describe(entry.key, entry.node, entry.attrs)

    def put_last(self, cluster: UUID, rows: Iterable[LastRow]) -> None:
        """Write the newest minutes as read from another store, in one transaction."""
        with self._copying(cluster) as session:
            for row in rows:
                if not session.seen(row.key, row.ts):
                    continue
                measured = any(value is not None for value in row.values)
                session.last(row.key, row.ts, 0 if measured else -1, row.values if measured else [])
                if session.entries[row.key].last_ts == row.ts:
                    session.describe(row.key, row.node, row.attrs)

    def counts(self, cluster: UUID, kind: Kind, tier: str, start: int, end: int) -> tuple[int, int]:
        """Return how many rows the range has, and their checksum. Reads all of them."""
        rows = total = 0
        for row in self.scan(cluster, kind, tier, start, end):
            rows += 1
            total = checksum.add((row,), total)
        return rows, total

    def scan(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> Iterator[StoredRow]:
        """Yield the rows of the range, an hour of minutes (or 60 buckets) per query."""
        with index.translated():
            yield from self._reader.rows(cluster, kind, tier, start, end)

    def load(self, cluster: UUID, kind: Kind, tier: str, rows: Iterable[StoredRow]) -> int:
        """Store rows as they are, without rollups.

        Raises:
            StoreError: also for rows that are older than this tier is kept.
        """
        given = list(rows)
        with self._copying(cluster) as session:
            buffer = self._merge_buffer(session)
            usable = [row for row in given if session.seen(row.key, row.ts)]
            width = 60 * TIERS[tier]
            buffer.load(tier, [kind], {row.ts - row.ts % width for row in usable}, width)
            for row in usable:
                buffer.put(tier, row.key, row.ts, row.n, row.cells)
            too_old = buffer.flush()
            if too_old:
                msg = (
                    f"{too_old} {kind} rows of {tier} are older than cluster {cluster} keeps them:"
                    " choose a longer retention first"
                )
                raise StoreError(msg)
        return len(usable)

    def maintain(self, now: int) -> str:
        """Check the buckets, continue moves and erasures; return one line for the log."""
        with index.translated():
            done = self._buckets.check(self._wanted())
            if done:  # the rows of a bucket that was created again are gone
                index.outdate()
            for cluster in MetricCluster.objects.filter(erasing=True):
                self.erase(cluster.cluster)
                done.append(f"erased cluster {cluster}")
            mover = Mover(self._influx, self._buckets, self._retention)
            moved, left = mover.run(now, budget_seconds=MOVE_SECONDS)
        if moved:
            done.append(f"moved {moved} kinds and tiers to other buckets")
        if left:
            done.append(f"{left} moves continue")
        return "; ".join(done) or f"{len(self._wanted())} buckets are there"

    def ping(self) -> None:
        """Check that InfluxDB answers and accepts the token, and that the index can be read."""
        self.position(UUID(int=0), "")
        self._influx.ping()

    def prove_writable(self, now: int, *, seconds: float) -> None:
        """Write a point into every bucket that has rows, and read it.

        InfluxDB's own time-outs bound it, not ``seconds``. Before the first bucket exists, only
        InfluxDB's answer is checked.
        """
        del seconds
        with index.translated():
            wanted = self._wanted()
        self._influx.ping()
        for bucket in wanted:
            proof.prove_writable(self._influx, bucket, now)

    def warnings(self) -> list[str]:
        """Return nothing: InfluxDB itself reports problems of its files."""
        return []

    def check(self) -> str:
        """Return "ok", or what is wrong: InfluxDB is down, refuses the token, lacks a bucket."""
        try:
            with index.translated():
                problems = self._buckets.missing(self._wanted())
        except StoreError as exc:
            return str(exc)
        return "; ".join(problems) or "ok"

    def places(self, clusters: Iterable[UUID]) -> list[StorePlace]:
        """Return the InfluxDB as it is now; see the protocol."""
        with index.translated():
            return [identity.place_of(self._influx, self._buckets, clusters)]

    def adopt(self, installation: str) -> None:
        """Write the installation's id into the InfluxDB if it has none."""
        identity.adopt(self._influx, self._buckets, installation)

    def close(self) -> None:
        """Close this process's connections; a later call opens new ones."""
        self._influx.close()

    def _merge_buffer(self, session: Session) -> MergeBuffer:
        cluster_buckets = ClusterBuckets.made(self._buckets, session.cluster, self._retention)
        cluster = session.cluster.cluster
        return MergeBuffer(self._influx, cluster_buckets, cluster, session.recent, self._clock())

    def _wanted(self) -> dict[str, int]:
        """Return the buckets that have rows, and how long each keeps them, in seconds."""
        rows = MetricPlace.objects.values_list("tier", "kept_seconds").distinct()
        return {
            self._buckets.name(tier, retention_seconds): retention_seconds
            for tier, retention_seconds in rows
        }

    @contextmanager
    def _copying(self, cluster: UUID) -> Iterator[Session]:
        """Lock a cluster for rows of another store, without the daily limit of series."""
        with index.writing(cluster) as row, index.translated():
            session = self._memory.begin(row, limited=False)
            yield session
            with transaction.atomic():
                session.save()
            self._memory.learn(session)


def _detail(refused: int, skipped: int, problem: str, too_old: int) -> str:
    parts = []
    if refused:
        parts.append(f"{refused} values refused: out of range or contradictory")
    if skipped:
        parts.append(f"{skipped} rows skipped: {problem}")
    if too_old:
        parts.append(f"{too_old} rows not stored: older than their tier is kept")
    return "; ".join(parts)
