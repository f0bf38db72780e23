"""The SQLite metric store: one file, shared by all processes of one machine.

The file must be on a local disk: write-ahead logging does not work over a network.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from uuid import UUID

from metrics.series.catalog import Kind
from metrics.series.rows import Columns, SeriesKey
from metrics.series.windows import Position, Window
from metrics.stores import checksum
from metrics.stores.copier import StoredRow, StoredSeries
from metrics.stores.errors import StoreError
from metrics.stores.housekeeping import NO_BOUNDS
from metrics.stores.identity import StorePlace
from metrics.stores.reader import LastRow, TopRow
from metrics.stores.sqlite import (
    backup,
    copy,
    expire,
    identity,
    last,
    ledger,
    proof,
    read,
    seal,
    top,
    write,
)
from metrics.stores.sqlite.connection import Connections, explain
from metrics.stores.sqlite.series import Series, SeriesIndex
from metrics.stores.writer import Batch, WriteResult

_VERIFIED_AT_ONCE = 2_000
"""Chunks whose checksums one :meth:`SqliteStore.maintain` compares: 100 MB."""


class SqliteStore:
    """A :class:`~metrics.stores.base.MetricStore` in a SQLite file, created on first use.

    Safe to share between threads and processes, and across a fork.
    """

    def __init__(self, path: Path) -> None:
        self._connections = Connections(path)
        self._index = SeriesIndex()

    def write(self, cluster: UUID, stream: str, batch: Batch) -> WriteResult:
        """Write a batch in one transaction; see the protocol."""
        self._connections.get()  # after a fork, this creates the child's lock
        seal.unseal_early(self._connections, cluster, write.spans_of(batch))
        with self._connections.write_lock:
            with self._connections.transaction() as connection:
                series = self._index.begin(connection, cluster)
                result = write.write(connection, series, stream, batch)
            self._index.learn(cluster, series)
        return result

    def position(self, cluster: UUID, stream: str) -> Position:
        """Return the stream's position; both None before the first batch."""
        connection = self._connections.get()
        with self._connections.translated():
            return ledger.position(connection, cluster, stream)

    def windows(
        self, cluster: UUID, stream: str, start: int, end: int, *, states: Sequence[str] = ()
    ) -> list[Window]:
        """Return windows that overlap ``[start, end)``, ascending; only of ``states`` if given."""
        connection = self._connections.get()
        with self._connections.translated():
            return ledger.windows(connection, cluster, stream, start, end, states)

    def window_runs(self, cluster: UUID, stream: str, start: int, end: int) -> list[Window]:
        """Return the ledger, with windows that came in time joined; see the protocol."""
        connection = self._connections.get()
        with self._connections.translated():
            return ledger.window_runs(connection, cluster, stream, start, end)

    def read(
        self, cluster: UUID, key: SeriesKey, field: str, tier: str, start: int, end: int
    ) -> Columns:
        """Return one field's buckets with ``start <= t < end``; one lookup per bucket."""
        connection = self._connections.get()
        with self._connections.translated():
            return read.read(connection, cluster, key, field, tier, start, end)

    def read_fields(
        self, cluster: UUID, key: SeriesKey, fields: Sequence[str], tier: str, start: int, end: int
    ) -> dict[str, Columns]:
        """Return several fields of one series at the cost of little more than one."""
        connection = self._connections.get()
        with self._connections.translated():
            return read.read_fields(connection, cluster, key, fields, tier, start, end)

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
        connection = self._connections.get()
        with self._connections.translated():
            return top.top(connection, clusters, kind, field, tier, start, end, limit=limit, by=by)

    def read_many(
        self, cluster: UUID, kind: Kind, field: str, tier: str, start: int, end: int
    ) -> dict[SeriesKey, Columns]:
        """Return one field of every series of a kind that has data in the range."""
        connection = self._connections.get()
        with self._connections.translated():
            return read.read_many(connection, cluster, kind, field, tier, start, end)

    def last(self, cluster: UUID, kind: Kind, *, since: int = 0) -> list[LastRow]:
        """Return the newest minute of each series of a kind with ``ts >= since``."""
        connection = self._connections.get()
        with self._connections.translated():
            return last.last(connection, cluster, kind, since=since)

    def last_one(self, cluster: UUID, key: SeriesKey) -> LastRow | None:
        """Return the newest minute of one series; None if it was never seen."""
        connection = self._connections.get()
        with self._connections.translated():
            return last.last_one(connection, cluster, key)

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
        connection = self._connections.get()
        with self._connections.translated():
            return last.find(
                connection, clusters, kind, text, since=since, limit=limit, order=order
            )

    def first_seen(self, cluster: UUID, key: SeriesKey) -> int | None:
        """Return the first minute of a series ever stored; None if it was never seen."""
        connection = self._connections.get()
        with self._connections.translated():
            return last.first_seen(connection, cluster, key)

    def expire(
        self, cluster: UUID, kind: Kind, tier: str, before: int, *, limit: int = 50_000
    ) -> int:
        """Delete buckets of a kind older than ``before``, oldest first; about ``limit``."""
        return expire.expire(self._connections, cluster, kind, tier, before, limit)

    def forget(self, cluster: UUID, before: int, by_kind: Mapping[Kind, int] = NO_BOUNDS) -> int:
        """Delete series, last values and ledger windows that ended before ``before``."""
        expire.resume_erasures(self._connections)
        return expire.forget(self._connections, cluster, before, by_kind)

    def erase(self, cluster: UUID) -> None:
        """Delete everything of a cluster, in short transactions."""
        expire.erase(self._connections, cluster)

    def clusters(self) -> list[UUID]:
        """Return the ids of all clusters that the store knows."""
        connection = self._connections.get()
        with self._connections.translated():
            rows = connection.execute("SELECT uuid FROM cluster WHERE uuid NOT NULL ORDER BY id")
            return [UUID(uuid) for (uuid,) in rows]

    def series(self, cluster: UUID) -> list[StoredSeries]:
        """Return all series of a cluster, by kind, ns and name."""
        connection = self._connections.get()
        with self._connections.translated():
            number = read.cluster_number(connection, cluster)
            return [] if number is None else copy.all_series(connection, number)

    def put_series(self, cluster: UUID, series: Iterable[StoredSeries]) -> None:
        """Create or change series as read from another store, in one transaction."""
        with self._writing(cluster) as (connection, own):
            copy.put_series(connection, own, series)

    def put_last(self, cluster: UUID, rows: Iterable[LastRow]) -> None:
        """Write the newest minutes as read from another store, in one transaction."""
        with self._writing(cluster) as (connection, own):
            copy.put_last(connection, own, rows)

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
        """Yield the rows of the range, one chunk's span per read."""
        connection = self._connections.get()
        with self._connections.translated():
            number = read.cluster_number(connection, cluster)
            if number is not None:
                yield from copy.scan(connection, number, kind, tier, start, end)

    def load(self, cluster: UUID, kind: Kind, tier: str, rows: Iterable[StoredRow]) -> int:
        """Store rows as they are in one transaction, without rollups."""
        with self._writing(cluster) as (connection, own):
            return copy.load(connection, own, kind, tier, rows)

    def maintain(self, now: int) -> str:
        """Seal settled rows, verify checksums and free space; return one line for the log."""
        chunks, rows = seal.seal_due(self._connections, now)
        seal.verify(self._connections, _VERIFIED_AT_ONCE)
        connection = self._connections.get()
        with self._connections.translated():
            damaged = seal.damaged(connection)
        freed = backup.free_space(self._connections)
        done = [f"sealed {rows} rows in {chunks} chunks"] if chunks else []
        done += [f"freed {freed:,} bytes"] if freed else []
        done += [f"{len(damaged)} damaged chunks are left out of answers"] if damaged else []
        return "; ".join(done) or "nothing to do"

    @contextmanager
    def _writing(self, cluster: UUID) -> Iterator[tuple[sqlite3.Connection, Series]]:
        """Hold a transaction for rows of another store, without the daily limit of series."""
        self._connections.get()  # after a fork, this creates the child's lock
        with self._connections.write_lock:
            with self._connections.transaction() as connection:
                series = self._index.begin(connection, cluster, limited=False)
                yield connection, series
                series.finish(connection)
            self._index.learn(cluster, series)

    def ping(self) -> None:
        """Check that the file can be read."""
        self.position(UUID(int=0), "")

    def prove_writable(self, now: int, *, seconds: float) -> None:
        """Write a small row into the file and read it; see the protocol."""
        proof.prove_writable(self._connections, now, seconds)

    def warnings(self) -> list[str]:
        """Return one line if sealed chunks are known to be damaged."""
        connection = self._connections.get()
        with self._connections.translated():
            count = len(seal.damaged(connection))
        return [f"{count} damaged chunks are left out of answers: see the log"] if count else []

    def check(self) -> str:
        """Return "ok", or what is wrong with the file. Reads all of it: seconds per gigabyte.

        Chunks that turn out to be damaged are set aside.
        """
        try:
            connection = self._connections.get()
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if answer == "ok":
                seal.verify(self._connections)
                damaged = seal.damaged(connection)
                (chunks,) = connection.execute("SELECT count(*) FROM chunk").fetchone()
                if damaged:
                    answer = f"{len(damaged)} of {chunks} chunks are damaged: {damaged[0]}"
        except StoreError as exc:
            return str(exc)
        except sqlite3.Error as exc:
            return f"{self._connections.path}: {explain(exc)}"
        return "ok" if answer == "ok" else f"{self._connections.path}: {answer}"

    def places(self, clusters: Iterable[UUID]) -> list[StorePlace]:
        """Return the file as it is on disk now; see the protocol."""
        del clusters
        return [self.place(lambda _: True)]

    def place(self, belongs: Callable[[UUID], bool]) -> StorePlace:
        """Return the file as it is on disk now, for data of clusters that belong here."""
        return identity.place_of(self._connections, belongs)

    def adopt(self, installation: str) -> None:
        """Write the installation's id into the file if it has none."""
        identity.adopt(self._connections, installation)

    def close(self) -> None:
        """Close this process's connections; a later call opens new ones."""
        self._connections.close()
