"""The positions of streams and their gap ledger in the SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from uuid import UUID

from metrics.series.windows import Position, Window
from metrics.stores.sqlite.read import cluster_number
from metrics.stores.window_runs import Sums, runs

_PLAIN = "state = 'done' AND filled_at IS NULL AND reason = ''"
_ODD = "(state <> 'done' OR filled_at IS NOT NULL OR reason <> '')"  # as in the index
_WINDOW = "t0, t1, state, got, expected, attempts, reason, detail, filled_at, resolution"


def position(connection: sqlite3.Connection, cluster: UUID, stream: str) -> Position:
    """See :meth:`metrics.stores.reader.MetricReader.position`."""
    row = connection.execute(
        "SELECT watermark, head FROM watermark JOIN cluster ON cluster.id = watermark.cluster"
        " WHERE uuid = ? AND stream = ?",
        (str(cluster), stream),
    ).fetchone()
    return Position(None, None) if row is None else Position(*row)


def windows(
    connection: sqlite3.Connection,
    cluster: UUID,
    stream: str,
    start: int,
    end: int,
    states: Sequence[str],
) -> list[Window]:
    """See :meth:`metrics.stores.reader.MetricReader.windows`."""
    number = cluster_number(connection, cluster)
    wanted = f" AND state IN ({', '.join('?' * len(states))})" if states else ""
    index = "pull_window_end"
    if states and "done" not in states:
        index, wanted = "pull_window_odd", f" AND {_ODD}{wanted}"
    rows = connection.execute(
        f"SELECT {_WINDOW}"  # noqa: S608
        f" FROM pull_window INDEXED BY {index}"
        f" WHERE cluster = ? AND stream = ? AND t1 > ? AND t0 < ?{wanted} ORDER BY t0",
        (number, stream, start, end, *states),
    )
    return [Window(*row) for row in rows]


def window_runs(
    connection: sqlite3.Connection, cluster: UUID, stream: str, start: int, end: int
) -> list[Window]:
    """See :meth:`metrics.stores.reader.MetricReader.window_runs`."""
    who = (cluster_number(connection, cluster), stream)
    of_stream = "FROM pull_window WHERE cluster = ? AND stream = ? AND t0 >= ? AND t0 < ?"

    def sums(first: int, last: int) -> Sums:
        row = connection.execute(
            "SELECT min(t0), max(t1), sum(t1 - t0), sum(got), sum(expected), max(attempts)"
            f" {of_stream} AND {_PLAIN}",
            (*who, first, last),
        ).fetchone()
        return Sums(*(value or 0 for value in row))

    def windows(first: int, last: int, condition: str = _PLAIN) -> list[Window]:
        rows = connection.execute(
            f"SELECT {_WINDOW} {of_stream} AND {condition} ORDER BY t0",
            (*who, first, last),
        )
        return [Window(*row) for row in rows]

    first = connection.execute(  # it may overlap the range
        "SELECT t0 FROM pull_window INDEXED BY pull_window_end"
        " WHERE cluster = ? AND stream = ? AND t1 > ? ORDER BY t1 LIMIT 1",
        (*who, start),
    ).fetchone()
    begin = start if first is None else min(start, first[0])
    odd = connection.execute(
        f"SELECT {_WINDOW} FROM pull_window INDEXED BY pull_window_odd"  # noqa: S608
        f" WHERE cluster = ? AND stream = ? AND t1 > ? AND t0 < ? AND {_ODD} ORDER BY t0",
        (*who, start, end),
    )
    return runs([Window(*row) for row in odd], begin, end, sums=sums, windows=windows)
