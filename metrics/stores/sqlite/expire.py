"""Deletion in the SQLite store, in transactions short enough for pulls to wait."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from uuid import UUID

from metrics.series.catalog import TIERS, Kind
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.backup import free_space
from metrics.stores.sqlite.chunks import Chunk, DamagedChunkError
from metrics.stores.sqlite.connection import Connections
from metrics.stores.sqlite.read import cluster_number
from metrics.stores.sqlite.rollup import settle_older
from metrics.stores.sqlite.sealed import SPANS
from metrics.stores.sqlite.series import sid_range

CHUNK = 20_000
"""Rows that one transaction deletes: about 50 ms."""

_CHUNKS = 100
"""Sealed chunks that one transaction deletes."""


def expire(
    connections: Connections, cluster: UUID, kind: Kind, tier: str, before: int, limit: int
) -> int:
    """See :meth:`metrics.stores.housekeeping.MetricHousekeeping.expire`."""
    connection = connections.get()
    with connections.translated():
        number = cluster_number(connection, cluster)
    if number is None:
        return 0
    with connections.transaction() as writer:
        settle_older(writer, number, kind, before)
    gone = _expire_chunks(connections, number, kind, tier, before, limit)
    return gone + _delete(connections, f"{kind}_{tier}", TIERS[tier], number, before, limit - gone)


def _expire_chunks(
    connections: Connections, number: int, kind: Kind, tier: str, before: int, limit: int
) -> int:
    """Delete whole chunks, and older rows of the newest ones; return how many rows."""
    gone = 0
    span = SPANS[tier]
    while gone < limit:
        with connections.transaction() as connection:
            found = connection.execute(
                "SELECT id, t0, since, damaged, data FROM chunk JOIN chunk_data USING(id)"
                " WHERE cluster = ? AND kind = ? AND tier = ? AND t0 < ?"
                " AND (t0 + ? <= ? OR (since < ? AND NOT damaged)) ORDER BY t0 LIMIT ?",
                (number, schema.KIND_NUMBERS[kind], TIERS[tier], before, span, before, before,
                 _CHUNKS),
            ).fetchall()  # fmt: skip
            for chunk_id, t0, since, damaged, data in found:
                gone += 0 if damaged else _count(data, since, before)
                if t0 + span <= before:
                    _delete_chunks(connection, (chunk_id,))
                else:
                    connection.execute(
                        "UPDATE chunk SET since = ? WHERE id = ?", (before, chunk_id)
                    )
        if len(found) < _CHUNKS:
            break
    return gone


def _count(data: bytes, since: int, before: int) -> int:
    """Return how many rows of a chunk are in ``[since, before)``; 0 if it is damaged."""
    try:
        return Chunk(data).rows(since, before)
    except (DamagedChunkError, zlib.error):
        return 0


def _delete_chunks(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    keys = [(chunk_id,) for chunk_id in ids]
    connection.executemany("DELETE FROM chunk_data WHERE id = ?", keys)
    connection.executemany("DELETE FROM chunk WHERE id = ?", keys)


def forget(
    connections: Connections, cluster: UUID, before: int, by_kind: Mapping[Kind, int]
) -> int:
    """See :meth:`metrics.stores.housekeeping.MetricHousekeeping.forget`."""
    connection = connections.get()
    with connections.translated():
        number = cluster_number(connection, cluster)
    if number is None:
        return 0
    gone = 0
    for kind in schema.KINDS:
        with connections.transaction() as connection:
            gone += _forget_kind(connection, kind, number, by_kind.get(kind, before))
    with connections.transaction() as connection:
        connection.execute(
            "DELETE FROM pull_window WHERE cluster = ? AND t1 <= ?", (number, before)
        )
    return gone


def _forget_kind(connection: sqlite3.Connection, kind: Kind, number: int, before: int) -> int:
    low, high = sid_range(number)
    gone = connection.execute(
        f"DELETE FROM series WHERE sid IN (SELECT sid FROM {kind}_last"  # noqa: S608
        " WHERE sid BETWEEN ? AND ? AND ts < ?)",
        (low, high, before),
    ).rowcount
    if gone:
        connection.execute(
            f"DELETE FROM {kind}_last WHERE sid BETWEEN ? AND ? AND ts < ?",  # noqa: S608
            (low, high, before),
        )
        # Invalidates the series numbers that other processes have cached.
        connection.execute("UPDATE cluster SET generation = generation + 1 WHERE id = ?", (number,))
    return gone


def erase(connections: Connections, cluster: UUID) -> None:
    """See :meth:`metrics.stores.housekeeping.MetricHousekeeping.erase`.

    The cluster's id is deleted first, so that nothing is found any more; its rows follow in short
    transactions. :func:`resume_erasures` continues where a killed process stopped.
    """
    with connections.transaction() as connection:
        connection.execute("UPDATE cluster SET uuid = NULL WHERE uuid = ?", (str(cluster),))
    resume_erasures(connections)


def resume_erasures(connections: Connections) -> None:
    """Delete all rows of clusters whose erasure has begun, and free the space."""
    connection = connections.get()
    with connections.translated():
        numbers = [
            number for (number,) in connection.execute("SELECT id FROM cluster WHERE uuid IS NULL")
        ]
    for number in numbers:
        for kind in schema.KINDS:
            for tier, step in TIERS.items():
                table = f"{kind}_{tier}"
                while _delete(connections, table, step, number, 2**62, CHUNK):
                    pass
        while _erase_chunks(connections, number):
            pass
        with connections.transaction() as connection:
            for kind in schema.KINDS:
                connection.execute(
                    f"DELETE FROM {kind}_last WHERE sid BETWEEN ? AND ?",  # noqa: S608
                    sid_range(number),
                )
            for table in ("series", "watermark", "pull_window", "open_bucket"):
                connection.execute(f"DELETE FROM {table} WHERE cluster = ?", (number,))  # noqa: S608
            connection.execute("DELETE FROM cluster WHERE id = ?", (number,))
    if numbers:
        free_space(connections, all_of_it=True)


def _erase_chunks(connections: Connections, number: int) -> int:
    """Delete some chunks of a cluster; return how many."""
    with connections.transaction() as connection:
        ids = [
            chunk_id
            for (chunk_id,) in connection.execute(
                "SELECT id FROM chunk WHERE cluster = ? LIMIT ?", (number, _CHUNKS)
            )
        ]
        _delete_chunks(connection, ids)
    return len(ids)


def _delete(
    connections: Connections, table: str, step: int, number: int, before: int, limit: int
) -> int:
    """Delete at most ``limit`` of a cluster's oldest rows before ``before``."""
    gone = 0
    while gone < limit:
        size = min(CHUNK, limit - gone)
        with connections.transaction() as connection:
            count = _delete_chunk(connection, table, step, number, before, size)
        gone += count
        if count < size:
            break
    return gone


def _delete_chunk(
    connection: sqlite3.Connection, table: str, step: int, number: int, before: int, size: int
) -> int:
    oldest, newest = connection.execute(
        f"SELECT (SELECT min(ts) FROM {table}), (SELECT max(ts) FROM {table})"  # noqa: S608
    ).fetchone()
    if oldest is None:
        return 0
    low, high = sid_range(number)
    keys = connection.execute(
        "WITH RECURSIVE walk(t) AS (SELECT :first UNION ALL SELECT t + :step FROM walk"  # noqa: S608
        f" WHERE t + :step < :end) SELECT ts, sid FROM walk CROSS JOIN {table}"
        " ON ts = t AND sid BETWEEN :low AND :high WHERE t < :end LIMIT :size",
        {
            "first": oldest,
            "step": step,
            "end": min(before, newest + step),
            "low": low,
            "high": high,
            "size": size,
        },
    ).fetchall()
    connection.executemany(f"DELETE FROM {table} WHERE ts = ? AND sid = ?", keys)  # noqa: S608
    return len(keys)
