"""The SQLite metric store: one file, shared by all processes of one machine.

The file must lie on a local disk: write-ahead logging does not work over a network.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import UUID

from metrics.catalog import Kind
from metrics.stores import sqlite_expire, sqlite_read, sqlite_write
from metrics.stores.base import (
    Batch,
    Columns,
    LastRow,
    Position,
    SeriesKey,
    StoreError,
    Window,
    WriteResult,
)
from metrics.stores.sqlite_connection import Connections, explain
from metrics.stores.sqlite_series import SeriesIndex


class SqliteStore:
    """A :class:`~metrics.stores.base.MetricStore` in a SQLite file, which is made on first use.

    Safe to share between threads and processes, and over a fork.
    """

    def __init__(self, path: Path) -> None:
        self._connections = Connections(path)
        self._index = SeriesIndex()

    def write(self, cluster: UUID, stream: str, batch: Batch) -> WriteResult:
        """Write a batch in one transaction; see the protocol."""
        self._connections.get()  # after a fork, this makes the lock that the child uses
        with self._connections.write_lock:
            with self._connections.transaction() as connection:
                series = self._index.begin(connection, cluster)
                result = sqlite_write.write(connection, series, stream, batch)
            self._index.learn(cluster, series)
        return result

    def position(self, cluster: UUID, stream: str) -> Position:
        """Return how far the stream is; both None before the first batch."""
        connection = self._connections.get()
        with self._connections.translated():
            return sqlite_read.position(connection, cluster, stream)

    def windows(
        self, cluster: UUID, stream: str, start: int, end: int, *, states: Sequence[str] = ()
    ) -> list[Window]:
        """Return ledger lines that overlap ``[start, end)``, ascending; of ``states`` if given."""
        connection = self._connections.get()
        with self._connections.translated():
            return sqlite_read.windows(connection, cluster, stream, start, end, states)

    def read(
        self, cluster: UUID, key: SeriesKey, field: str, tier: str, start: int, end: int
    ) -> Columns:
        """Return one field's buckets with ``start <= t < end``; one look-up a bucket."""
        connection = self._connections.get()
        with self._connections.translated():
            return sqlite_read.read(connection, cluster, key, field, tier, start, end)

    def read_many(
        self, cluster: UUID, kind: Kind, field: str, tier: str, start: int, end: int
    ) -> dict[SeriesKey, Columns]:
        """Return one field of every series of a kind that has data in the range."""
        connection = self._connections.get()
        with self._connections.translated():
            return sqlite_read.read_many(connection, cluster, kind, field, tier, start, end)

    def last(self, cluster: UUID, kind: Kind, *, since: int = 0) -> list[LastRow]:
        """Return the newest minute of each series of a kind with ``ts >= since``."""
        connection = self._connections.get()
        with self._connections.translated():
            return sqlite_read.last(connection, cluster, kind, since=since)

    def last_one(self, cluster: UUID, key: SeriesKey) -> LastRow | None:
        """Return the newest minute of one series; None if it was never seen."""
        connection = self._connections.get()
        with self._connections.translated():
            return sqlite_read.last_one(connection, cluster, key)

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
            return sqlite_read.find(
                connection, clusters, kind, text, since=since, limit=limit, order=order
            )

    def first_seen(self, cluster: UUID, key: SeriesKey) -> int | None:
        """Return the first minute of a series ever stored; None if it was never seen."""
        connection = self._connections.get()
        with self._connections.translated():
            return sqlite_read.first_seen(connection, cluster, key)

    def expire(self, cluster: UUID, tier: str, before: int, *, limit: int = 50_000) -> int:
        """Delete at most ``limit`` buckets older than ``before``, oldest first."""
        return sqlite_expire.expire(self._connections, cluster, tier, before, limit)

    def forget(self, cluster: UUID, before: int) -> int:
        """Delete series, last values and ledger lines that ended before ``before``."""
        sqlite_expire.resume_erasures(self._connections)
        return sqlite_expire.forget(self._connections, cluster, before)

    def erase(self, cluster: UUID) -> None:
        """Delete everything of a cluster, in short transactions."""
        sqlite_expire.erase(self._connections, cluster)

    def clusters(self) -> list[UUID]:
        """Return the ids of all clusters that the store knows."""
        connection = self._connections.get()
        with self._connections.translated():
            rows = connection.execute("SELECT uuid FROM cluster WHERE uuid NOT NULL ORDER BY id")
            return [UUID(uuid) for (uuid,) in rows]

    def check(self) -> str:
        """Return "ok", or what is wrong with the file. Reads all of it: seconds a gigabyte."""
        try:
            connection = self._connections.get()
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except StoreError as exc:
            return str(exc)
        except sqlite3.Error as exc:
            return f"{self._connections.path}: {explain(exc)}"
        return "ok" if answer == "ok" else f"{self._connections.path}: {answer}"

    def close(self) -> None:
        """Close this process's connections; a later call opens new ones."""
        self._connections.close()
