"""Reads of the SQLite store.

The tables are ordered by time, so one series over time is a walk over the bucket starts with one
look-up each (3 ms for a day of minutes); a plain ``WHERE sid = ? AND ts BETWEEN`` would read
every cluster's rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from uuid import UUID

import orjson

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind, field_of
from metrics.series.rollups import bucket_start
from metrics.series.rows import Columns, SeriesKey
from metrics.series.windows import Position, Window
from metrics.stores.errors import StoreError
from metrics.stores.reader import LastRow
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.rollup import Bucket, open_buckets
from metrics.stores.sqlite.sealed import absent, read_all, read_series, snapshot
from metrics.stores.sqlite.series import sid_range
from metrics.stores.window_runs import Sums, runs

WALK = (
    "WITH RECURSIVE walk(t) AS (SELECT :first UNION ALL SELECT t + :step FROM walk"
    " WHERE t + :step < :end) "
)


_Entry = tuple[int, int, int, int | None, int | None]
"""ts, n, total, low, high of one field."""


def cluster_number(connection: sqlite3.Connection, cluster: UUID) -> int | None:
    """Return the number of a cluster; None if the store does not know it."""
    row = connection.execute("SELECT id FROM cluster WHERE uuid = ?", (str(cluster),)).fetchone()
    return None if row is None else int(row[0])


def series_number(connection: sqlite3.Connection, cluster: UUID, key: SeriesKey) -> int | None:
    """Return the number of a series; None if it was never seen."""
    row = connection.execute(
        "SELECT s.sid FROM cluster c JOIN series s ON s.cluster = c.id"
        " WHERE c.uuid = ? AND s.kind = ? AND s.ns = ? AND s.name = ?",
        (str(cluster), schema.KIND_NUMBERS[key.kind], key.ns, key.name),
    ).fetchone()
    return None if row is None else int(row[0])


def series_keys(connection: sqlite3.Connection, number: int, kind: Kind) -> dict[int, SeriesKey]:
    """Return the names of a cluster's series of a kind, by sid."""
    return {
        sid: SeriesKey(kind, ns, name)
        for sid, ns, name in connection.execute(
            "SELECT sid, ns, name FROM series WHERE cluster = ? AND kind = ?",
            (number, schema.KIND_NUMBERS[kind]),
        )
    }


def position(connection: sqlite3.Connection, cluster: UUID, stream: str) -> Position:
    """See :meth:`metrics.stores.reader.MetricReader.position`."""
    row = connection.execute(
        "SELECT watermark, head FROM watermark JOIN cluster ON cluster.id = watermark.cluster"
        " WHERE uuid = ? AND stream = ?",
        (str(cluster), stream),
    ).fetchone()
    return Position(None, None) if row is None else Position(*row)


_PLAIN = "state = 'done' AND filled_at IS NULL AND reason = ''"
_ODD = "(state <> 'done' OR filled_at IS NOT NULL OR reason <> '')"  # as the index has it
_WINDOW = "t0, t1, state, got, expected, attempts, reason, detail, filled_at, resolution"


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

    first = connection.execute(  # it may reach into the range
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


def read(
    connection: sqlite3.Connection,
    cluster: UUID,
    key: SeriesKey,
    field: str,
    tier: str,
    start: int,
    end: int,
) -> Columns:
    """See :meth:`metrics.stores.reader.MetricReader.read`."""
    return read_fields(connection, cluster, key, (field,), tier, start, end)[field]


def read_fields(
    connection: sqlite3.Connection,
    cluster: UUID,
    key: SeriesKey,
    fields: Sequence[str],
    tier: str,
    start: int,
    end: int,
) -> dict[str, Columns]:
    """See :meth:`metrics.stores.reader.MetricReader.read_fields`."""
    found = {field: Columns([], [], [], [], []) for field in fields}
    values = ", ".join(_values(key.kind, field, tier) for field in found)
    sid = series_number(connection, cluster, key)
    if sid is None or start >= end or not found:
        return found
    with snapshot(connection):
        rows = connection.execute(
            f"{WALK} SELECT ts, {values} FROM walk CROSS JOIN {key.kind}_{tier}"  # noqa: S608
            " ON ts = t AND sid = :sid WHERE t < :end",
            {**walk_steps(connection, f"{key.kind}_{tier}", tier, start, end), "sid": sid},
        ).fetchall()
        number = sid >> schema.SID_BITS
        sealed, damaged = read_series(
            connection, number, key.kind, list(found), tier, (start, end), sid
        )
        still_open = open_buckets(
            connection, number, key.kind, tier, (start, end), list(found), (sid, sid)
        )
    if sealed or still_open:
        rows = [row for row in rows if row[0] not in still_open]
        rows += [(ts, *by[sid][1:]) for ts, by in still_open.items() if sid in by]
        rows = sorted([*sealed, *rows], key=itemgetter(0))
    if damaged:
        there = {row[0] for row in rows}  # came late, and is kept beside the damaged chunk
        missing = absent(damaged, TIERS[tier], start, end, there)
        found = {field: replace(columns, damaged=missing) for field, columns in found.items()}
    for at, columns in enumerate(found.values()):
        n, total, low, high = range(1 + 4 * at, 5 + 4 * at)
        present = [row for row in rows if row[total] is not None]
        columns.t.extend([row[0] for row in present])
        columns.n.extend([row[n] for row in present])
        columns.total.extend([row[total] for row in present])
        columns.low.extend([row[low] for row in present])
        columns.high.extend([row[high] for row in present])
    return found


def read_many(
    connection: sqlite3.Connection,
    cluster: UUID,
    kind: Kind,
    field: str,
    tier: str,
    start: int,
    end: int,
) -> dict[SeriesKey, Columns]:
    """See :meth:`metrics.stores.reader.MetricReader.read_many`."""
    values = _values(kind, field, tier)
    number = cluster_number(connection, cluster)
    if number is None or start >= end:
        return {}
    low, high = sid_range(number)
    found: dict[SeriesKey, Columns] = {}
    rows: dict[int, list[_Entry]] = {}
    with snapshot(connection):
        for sid, *row in connection.execute(
            f"{WALK} SELECT sid, ts, {values} FROM walk CROSS JOIN {kind}_{tier}"  # noqa: S608
            f" ON ts = t AND sid BETWEEN :low AND :high WHERE {_present(field, tier)}",
            {
                **walk_steps(connection, f"{kind}_{tier}", tier, start, end),
                "low": low,
                "high": high,
            },
        ):
            rows.setdefault(sid, []).append(tuple(row))
        sealed = read_all(connection, number, kind, field, tier, (start, end))
        older: dict[int, list[_Entry]] = {}
        for sid, entries in sealed:
            older.setdefault(sid, []).extend(entries)
        still_open = open_buckets(connection, number, kind, tier, (start, end), (field,))
        keys = series_keys(connection, number, kind)
    if still_open:
        _put_open(rows, still_open)
    for sid, entries in older.items():
        rows[sid] = sorted([*entries, *rows[sid]]) if sid in rows else entries
    for sid, entries in rows.items():
        if sid in keys:
            t, n, total, lows, highs = map(list, zip(*entries, strict=True))
            found[keys[sid]] = Columns(t, n, total, lows, highs)
    return found


def _put_open(rows: dict[int, list[_Entry]], still_open: dict[int, dict[int, Bucket]]) -> None:
    """Put open buckets in place of what the table has of them."""
    for sid, entries in rows.items():
        rows[sid] = [entry for entry in entries if entry[0] not in still_open]
    for ts, by_sid in still_open.items():
        for sid, (_, n, total, low, high) in by_sid.items():
            if n is not None and total is not None:
                rows.setdefault(sid, []).append((ts, n, total, low, high))
    for sid in [sid for sid, entries in rows.items() if not entries]:
        del rows[sid]
    for entries in rows.values():
        entries.sort()


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


def walk_steps(
    connection: sqlite3.Connection, table: str, tier: str, start: int, end: int
) -> dict[str, int]:
    """Return the walk over all bucket starts within ``[start, end)`` that the table can have."""
    step = TIERS[tier]
    oldest, newest = connection.execute(
        f"SELECT (SELECT min(ts) FROM {table}), (SELECT max(ts) FROM {table})"  # noqa: S608
    ).fetchone()
    return {
        "first": max(bucket_start(start + step - 1, step), oldest or 0),
        "end": min(end, (newest or 0) + step),
        "step": step,
    }


def _values(kind: Kind, field: str, tier: str) -> str:
    """Return the select list n, total, low, high of a field.

    Raises:
        StoreError: if the catalogue has no such field or tier; names are never passed on unseen.
    """
    check_field(kind, field, tier)
    if tier == "1m":
        return f"1, {field}, coalesce({field}_l, {field}), coalesce({field}_h, {field})"
    return f"{field}_n, {field}_s, {field}_l, {field}_h"


def check_field(kind: Kind, field: str, tier: str) -> None:
    """Raise StoreError if the catalogue has no such field or tier."""
    try:
        field_of(kind, field)
        TIERS[tier]
    except KeyError as exc:
        msg = f"no {kind} field {field} in tier {tier}"
        raise StoreError(msg) from exc


def _present(field: str, tier: str) -> str:
    """Return the condition that the bucket has the field, and lies within the range."""
    return f"{field if tier == '1m' else field + '_s'} IS NOT NULL AND t < :end"


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
