"""The SQLite store in several files: one lock and one writer each, one file per cluster.

The number of files is fixed when the first of them is made (:mod:`opscenter.core.shards`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal
from uuid import UUID

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.rows import Columns, SeriesKey
from metrics.series.windows import Position, Window
from metrics.stores.copier import StoredRow, StoredSeries
from metrics.stores.housekeeping import NO_BOUNDS
from metrics.stores.identity import StorePlace
from metrics.stores.reader import LastRow, TopRow
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.sqlite.top import rank
from metrics.stores.writer import Batch, WriteResult


class ShardedStore:
    """A :class:`~metrics.stores.base.MetricStore` over several :class:`SqliteStore`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.shards = tuple(SqliteStore(path) for path in paths)
        self._writing = threading.Lock()

    def _of(self, cluster: UUID) -> SqliteStore:
        return self.shards[cluster.int % len(self.shards)]

    def _is_of(self, shard: SqliteStore, cluster: UUID) -> bool:
        return self._of(cluster) is shard

    def _by_shard(self, clusters: Iterable[UUID]) -> Iterator[tuple[SqliteStore, list[UUID]]]:
        found: dict[int, list[UUID]] = {}
        for cluster in clusters:
            found.setdefault(cluster.int % len(self.shards), []).append(cluster)
        for at, own in found.items():
            yield self.shards[at], own

    def write(self, cluster: UUID, stream: str, batch: Batch) -> WriteResult:
        """Write a batch in one transaction; see the protocol.

        One thread of a process at a time, for all files: SQLite releases Python's lock for every
        row, and threads that write concurrently spend a third more CPU on passing it on.
        """
        with self._writing:
            return self._of(cluster).write(cluster, stream, batch)

    def position(self, cluster: UUID, stream: str) -> Position:
        """Return the stream's position; both None before the first batch."""
        return self._of(cluster).position(cluster, stream)

    def windows(
        self, cluster: UUID, stream: str, start: int, end: int, *, states: Sequence[str] = ()
    ) -> list[Window]:
        """Return windows that overlap ``[start, end)``, ascending; only of ``states`` if given."""
        return self._of(cluster).windows(cluster, stream, start, end, states=states)

    def window_runs(self, cluster: UUID, stream: str, start: int, end: int) -> list[Window]:
        """Return the ledger, with windows that came in time joined."""
        return self._of(cluster).window_runs(cluster, stream, start, end)

    def read(
        self, cluster: UUID, key: SeriesKey, field: str, tier: str, start: int, end: int
    ) -> Columns:
        """Return one field's buckets with ``start <= t < end``."""
        return self._of(cluster).read(cluster, key, field, tier, start, end)

    def read_fields(
        self, cluster: UUID, key: SeriesKey, fields: Sequence[str], tier: str, start: int, end: int
    ) -> dict[str, Columns]:
        """Return several fields of one series at the cost of little more than one."""
        return self._of(cluster).read_fields(cluster, key, fields, tier, start, end)

    def read_many(
        self, cluster: UUID, kind: Kind, field: str, tier: str, start: int, end: int
    ) -> dict[SeriesKey, Columns]:
        """Return one field of every series of a kind that has data in the range."""
        return self._of(cluster).read_many(cluster, kind, field, tier, start, end)

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
        found = [
            row
            for shard, own in self._by_shard(clusters)
            for row in shard.top(own, kind, field, tier, start, end, limit=limit, by=by)
        ]
        return sorted(found, key=lambda row: rank(by, row))[: max(0, limit)]

    def last(self, cluster: UUID, kind: Kind, *, since: int = 0) -> list[LastRow]:
        """Return the newest minute of each series of a kind with ``ts >= since``."""
        return self._of(cluster).last(cluster, kind, since=since)

    def last_one(self, cluster: UUID, key: SeriesKey) -> LastRow | None:
        """Return the newest minute of one series; None if it was never seen."""
        return self._of(cluster).last_one(cluster, key)

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
        """Return series of several clusters by a part of their name; reads all last values."""
        wanted = list(dict.fromkeys(clusters))
        found = [
            hit
            for shard, own in self._by_shard(wanted)
            for hit in shard.find(own, kind, text, since=since, limit=limit, order=order)
        ]
        at = FIELD_NAMES[kind].index(order) if order else None

        orders = {cluster: number for number, cluster in enumerate(wanted)}

        def sort_key(hit: tuple[UUID, LastRow]) -> tuple[bool, int, str, str, int]:
            value = hit[1].ts if at is None else hit[1].values[at]
            _, ns, name = hit[1].key
            return value is None, -(value or 0), ns, name, orders[hit[0]]

        return sorted(found, key=sort_key)[:limit]

    def first_seen(self, cluster: UUID, key: SeriesKey) -> int | None:
        """Return the first minute of a series ever stored; None if it was never seen."""
        return self._of(cluster).first_seen(cluster, key)

    def expire(
        self, cluster: UUID, kind: Kind, tier: str, before: int, *, limit: int = 50_000
    ) -> int:
        """Delete buckets of a kind older than ``before``, oldest first; about ``limit``."""
        return self._of(cluster).expire(cluster, kind, tier, before, limit=limit)

    def forget(self, cluster: UUID, before: int, by_kind: Mapping[Kind, int] = NO_BOUNDS) -> int:
        """Delete series, last values and ledger windows that ended before ``before``."""
        return self._of(cluster).forget(cluster, before, by_kind)

    def erase(self, cluster: UUID) -> None:
        """Delete everything of a cluster, in short transactions."""
        self._of(cluster).erase(cluster)

    def clusters(self) -> list[UUID]:
        """Return the ids of all clusters that the store knows."""
        return [cluster for shard in self.shards for cluster in shard.clusters()]

    def series(self, cluster: UUID) -> list[StoredSeries]:
        """Return all series of a cluster, by kind, ns and name."""
        return self._of(cluster).series(cluster)

    def put_series(self, cluster: UUID, series: Iterable[StoredSeries]) -> None:
        """Create or change series as read from another store, in one transaction."""
        self._of(cluster).put_series(cluster, series)

    def put_last(self, cluster: UUID, rows: Iterable[LastRow]) -> None:
        """Write the newest minutes as read from another store, in one transaction."""
        self._of(cluster).put_last(cluster, rows)

    def counts(self, cluster: UUID, kind: Kind, tier: str, start: int, end: int) -> tuple[int, int]:
        """Return how many rows the range has, and their checksum. Reads all of them."""
        return self._of(cluster).counts(cluster, kind, tier, start, end)

    def scan(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> Iterator[StoredRow]:
        """Yield the rows of the range, one chunk's span per read."""
        return self._of(cluster).scan(cluster, kind, tier, start, end)

    def load(self, cluster: UUID, kind: Kind, tier: str, rows: Iterable[StoredRow]) -> int:
        """Store rows as they are in one transaction, without rollups."""
        return self._of(cluster).load(cluster, kind, tier, rows)

    def maintain(self, now: int) -> str:
        """Do the housekeeping that is due in every file; return one line for the log."""
        return "; ".join(dict.fromkeys(shard.maintain(now) for shard in self.shards))

    def ping(self) -> None:
        """Check that every file can be read, with one small query each."""
        for shard in self.shards:
            shard.ping()

    def prove_writable(self, now: int, *, seconds: float) -> None:
        """Write a small row into every file and read it; see the protocol."""
        for shard in self.shards:
            shard.prove_writable(now, seconds=seconds)

    def warnings(self) -> list[str]:
        """Return problems that need attention although the store works."""
        return list(dict.fromkeys(line for shard in self.shards for line in shard.warnings()))

    def check(self) -> str:
        """Return "ok", or what is wrong with the files."""
        answers = [answer for shard in self.shards if (answer := shard.check()) != "ok"]
        return "; ".join(answers) or "ok"

    def places(self, clusters: Iterable[UUID]) -> list[StorePlace]:
        """Return every file as it is on disk now; see the protocol."""
        del clusters
        return [shard.place(partial(self._is_of, shard)) for shard in self.shards]

    def adopt(self, installation: str) -> None:
        """Write the installation's id into every file that has none."""
        for shard in self.shards:
            shard.adopt(installation)

    def close(self) -> None:
        """Close this process's connections; a later call opens new ones."""
        for shard in self.shards:
            shard.close()
