"""The newest minute of each series of the SQLite store, and when one was first seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from uuid import UUID

import orjson

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.rows import SeriesKey
from metrics.stores.errors import StoreError
from metrics.stores.reader import LastRow
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.read import cluster_number, series_number
from metrics.stores.sqlite.series import sid_range


def last(connection: sqlite3.Connection, cluster: UUID, kind: Kind, *, since: int) -> list[LastRow]:
    """See :meth:`metrics.stores.reader.MetricReader.last`."""
    number = cluster_number(connection, cluster)
    if number is None:
        return []
    rows = connection.execute(
        f"{_last_select(kind)} WHERE l.sid BETWEEN ? AND ? AND l.ts >= ?",
        (*sid_range(number), since),
    )
    return [_last_row(kind, row) for row in rows]


def last_one(connection: sqlite3.Connection, cluster: UUID, key: SeriesKey) -> LastRow | None:
    """See :meth:`metrics.stores.reader.MetricReader.last_one`."""
    sid = series_number(connection, cluster, key)
    row = connection.execute(f"{_last_select(key.kind)} WHERE l.sid = ?", (sid,)).fetchone()
    return None if row is None else _last_row(key.kind, row)


def find(
    connection: sqlite3.Connection,
    clusters: Iterable[UUID],
    kind: Kind,
    text: str,
    *,
    since: int,
    limit: int,
    order: str,
) -> list[tuple[UUID, LastRow]]:
    """See :meth:`metrics.stores.reader.MetricReader.find`."""
    if order and order not in FIELD_NAMES[kind]:
        msg = f"no {kind} field {order}"
        raise StoreError(msg)
    wanted = {str(cluster) for cluster in clusters}
    numbers = {
        number: UUID(uuid)
        for number, uuid in connection.execute("SELECT id, uuid FROM cluster WHERE uuid NOT NULL")
        if uuid in wanted
    }
    rows = connection.execute(
        f"{_last_select(kind, 'json_each(:clusters) c CROSS JOIN ')}"
        f" WHERE l.sid BETWEEN c.value << {schema.SID_BITS}"
        f" AND (c.value << {schema.SID_BITS}) | {(1 << schema.SID_BITS) - 1}"
        " AND l.ts >= :since AND (instr(lower(s.name), :text) OR instr(lower(s.ns), :text))"
        f" ORDER BY {f'l.{order}' if order else 'l.ts'} DESC, s.ns, s.name, s.cluster"
        " LIMIT :limit",
        {
            "since": since,
            "clusters": orjson.dumps(list(numbers)).decode(),
            "text": _lower_ascii(text),
            "limit": limit,
        },
    )
    return [(numbers[row[0] >> schema.SID_BITS], _last_row(kind, row)) for row in rows]


def first_seen(connection: sqlite3.Connection, cluster: UUID, key: SeriesKey) -> int | None:
    """See :meth:`metrics.stores.reader.MetricReader.first_seen`."""
    sid = series_number(connection, cluster, key)
    row = connection.execute("SELECT first_ts FROM series WHERE sid = ?", (sid,)).fetchone()
    return None if row is None else int(row[0])


def _lower_ascii(text: str) -> str:
    """Lower ASCII letters only, as SQLite's lower() does."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def _last_select(kind: Kind, outer: str = "") -> str:
    columns = ", ".join(f"l.{name}" for name in FIELD_NAMES[kind])
    return (
        f"SELECT l.sid, l.ts, s.ns, s.name, s.node, s.attrs, {columns}"  # noqa: S608
        f" FROM {outer}{kind}_last l CROSS JOIN series s"
        " ON s.sid = l.sid"
    )


def _last_row(kind: Kind, row: tuple[object, ...]) -> LastRow:
    _sid, ts, ns, name, node, attrs, *values = row
    return LastRow(
        key=SeriesKey(kind, str(ns), str(name)),
        ts=int(str(ts)),
        node=str(node),
        attrs=orjson.loads(str(attrs)) if attrs != "{}" else {},
        values=tuple(values),  # type: ignore[arg-type]
    )
