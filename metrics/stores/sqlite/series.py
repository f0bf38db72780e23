"""Numbers of clusters and series in the SQLite store, cached by each process."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from metrics.series.rows import SeriesInfo, SeriesKey
from metrics.series.windows import DAY
from metrics.stores.names import is_storable
from metrics.stores.sqlite import schema

MAX_NEW_SERIES_PER_DAY = 20_000
"""More new series of one cluster within a day are skipped: names that never repeat would fill the
file for years. 300 pods replaced every half hour make 14,400."""

_REMEMBERED = 500_000


@dataclass(slots=True)
class _Known:
    """This process's cache of one cluster's series: sid and first minute by key."""

    cluster: int
    generation: int
    series: dict[SeriesKey, tuple[int, int]] = field(default_factory=dict)
    infos: dict[SeriesKey, SeriesInfo] = field(default_factory=dict)


class SeriesIndex:
    """The cache of one process. Callers hold the store's write lock."""

    def __init__(self) -> None:
        self._known: dict[UUID, _Known] = {}

    def begin(
        self, connection: sqlite3.Connection, cluster: UUID, *, limited: bool = True
    ) -> Series:
        """Return the cluster's series for one transaction; create the cluster if it is new.

        ``limited`` is False for copies of another store, which applied the daily limit itself.
        """
        row = _cluster_row(connection, cluster)
        if row is None:
            # Not INSERT OR IGNORE each time: it would use up a number even when it ignores.
            connection.execute("INSERT INTO cluster(uuid) VALUES(?)", (str(cluster),))
            row = _cluster_row(connection, cluster)
        known = self._known.get(cluster)
        if known is None or (known.cluster, known.generation) != row[:2]:
            known = _Known(*row[:2])
        return Series(
            connection, known, next_number=row[2], new_day=row[3], new_count=row[4], limited=limited
        )

    def learn(self, cluster: UUID, series: Series) -> None:
        """Cache the results of a transaction, after its commit."""
        if sum(len(known.series) for known in self._known.values()) > _REMEMBERED:
            self._known.clear()
        series.known.series.update(series.fresh)
        series.known.infos.update(series.fresh_infos)
        series.known.generation += series.outdated
        self._known[cluster] = series.known


class Series:
    """The series of one cluster during one transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        known: _Known,
        *,
        next_number: int,
        new_day: int,
        new_count: int,
        limited: bool = True,
    ) -> None:
        self._connection = connection
        self.known = known
        self.cluster = known.cluster
        self.fresh: dict[SeriesKey, tuple[int, int]] = {}
        self.fresh_infos: dict[SeriesKey, SeriesInfo] = {}
        self.outdated = 0
        self.problem = ""
        self._next_number = next_number
        today = int(time.time()) // DAY
        self._new_day = today
        self._new_count = new_count if new_day == today else 0
        self._made = 0
        self._limited = limited

    @property
    def sids(self) -> tuple[int, int]:
        """Return the lowest and highest number that a series of the cluster can have."""
        return sid_range(self.cluster)

    def sid(self, key: SeriesKey, ts: int) -> int | None:
        """Return the number of a series that has data at ``ts``; create it if it is new.

        Returns:
            None if it cannot be created; :attr:`problem` says why.
        """
        entry = self.fresh.get(key) or self.known.series.get(key)
        if entry is None:
            entry = self._find(key) or self._make(key, ts)
            if entry is None:
                return None
            self.fresh[key] = entry
        sid, first = entry
        if ts < first:
            self._connection.execute(
                "UPDATE series SET first_ts = ? WHERE sid = ? AND first_ts > ?", (ts, sid, ts)
            )
            self.fresh[key] = (sid, ts)
        return sid

    def is_known_as(self, info: SeriesInfo) -> bool:
        """Return whether a series' node and attributes are known to be stored already."""
        known = self.fresh_infos.get(info.key) or self.known.infos.get(info.key)
        return known is not None and known.node == info.node and known.attrs == info.attrs

    def know_as(self, info: SeriesInfo) -> None:
        """Cache a series' node and attributes, once the transaction is committed."""
        self.fresh_infos[info.key] = info

    def outdate_others(self) -> None:
        """Invalidate other processes' caches of the cluster's series."""
        if not self.outdated:
            self.outdated = 1
            self._connection.execute(
                "UPDATE cluster SET generation = generation + 1 WHERE id = ?", (self.cluster,)
            )

    def finish(self, connection: sqlite3.Connection) -> None:
        """Store how many series were created."""
        if self._made:
            connection.execute(
                "UPDATE cluster SET next_number = ?, new_day = ?, new_count = ? WHERE id = ?",
                (self._next_number, self._new_day, self._new_count, self.cluster),
            )

    def _find(self, key: SeriesKey) -> tuple[int, int] | None:
        if not is_storable(key):
            return None
        row: tuple[int, int] | None = self._connection.execute(
            "SELECT sid, first_ts FROM series WHERE cluster = ? AND kind = ? AND ns = ?"
            " AND name = ?",
            (self.cluster, schema.KIND_NUMBERS[key.kind], key.ns, key.name),
        ).fetchone()
        return row

    def _make(self, key: SeriesKey, ts: int) -> tuple[int, int] | None:
        if not is_storable(key):
            self.problem = "a name is too long or not text"
            return None
        if self._limited and self._new_count >= MAX_NEW_SERIES_PER_DAY:
            self.problem = f"more than {MAX_NEW_SERIES_PER_DAY} new series in a day"
            return None
        if self._next_number >= 1 << schema.SID_BITS:
            self.problem = "the cluster's series numbers are used up: delete and enrol it again"
            return None
        sid = (self.cluster << schema.SID_BITS) | self._next_number
        self._connection.execute(
            "INSERT INTO series(sid, cluster, kind, ns, name, first_ts) VALUES(?,?,?,?,?,?)",
            (sid, self.cluster, schema.KIND_NUMBERS[key.kind], key.ns, key.name, ts),
        )
        self._next_number += 1
        self._new_count += 1
        self._made += 1
        return sid, ts


def _cluster_row(connection: sqlite3.Connection, cluster: UUID) -> Any:
    return connection.execute(
        "SELECT id, generation, next_number, new_day, new_count FROM cluster WHERE uuid = ?",
        (str(cluster),),
    ).fetchone()


def sid_range(cluster: int) -> tuple[int, int]:
    """Return the lowest and highest series number that a cluster can have."""
    first = cluster << schema.SID_BITS
    return first, first | ((1 << schema.SID_BITS) - 1)
