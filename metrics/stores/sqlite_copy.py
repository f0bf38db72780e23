"""Whole rows and series in and out of the SQLite store, for copies, exports and checks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

import orjson

from metrics.catalog import TIERS, Kind
from metrics.rollups import bucket_start
from metrics.stores import sqlite_schema as schema
from metrics.stores.base import LastRow, SeriesKey, StoredRow, StoredSeries
from metrics.stores.sqlite_rows import stored_cells, stored_values
from metrics.stores.sqlite_series import Series, sid_range

_BLOCK_BUCKETS = 60
"""Bucket starts that one read covers: an hour of minutes, ten hours, two and a half days."""


def scan(
    connection: sqlite3.Connection, number: int, kind: Kind, tier: str, start: int, end: int
) -> Iterator[StoredRow]:
    """See :meth:`metrics.stores.base.MetricStore.scan`; ``number`` is the cluster's."""
    table, step = f"{kind}_{tier}", TIERS[tier]
    oldest, newest = connection.execute(
        f"SELECT (SELECT min(ts) FROM {table}), (SELECT max(ts) FROM {table})"  # noqa: S608
    ).fetchone()
    if oldest is None:
        return
    width = _BLOCK_BUCKETS * step
    start, end = max(start, oldest), min(end, newest + 1)
    for begin in range(bucket_start(start, width), end, width):
        span = max(start, begin), min(end, begin + width)
        yield from _rows(connection, number, kind, tier, *span)


def _rows(
    connection: sqlite3.Connection, number: int, kind: Kind, tier: str, start: int, end: int
) -> list[StoredRow]:
    """Return the rows of one block, sorted."""
    step = TIERS[tier]
    columns = ", ".join(
        schema.minute_columns(kind) if tier == "1m" else schema.bucket_columns(kind)
    )
    low, high = sid_range(number)
    keys = series_keys(connection, number, kind)
    found: list[StoredRow] = []
    for ts in range(-(-start // step) * step, end, step):
        rows = connection.execute(
            f"SELECT sid, n, {columns} FROM {kind}_{tier}"  # noqa: S608
            " WHERE ts = ? AND sid BETWEEN ? AND ?",
            (ts, low, high),
        ).fetchall()
        found += sorted(
            StoredRow(ts, keys[row[0]], row[1], stored_cells(tier, row[2:]))
            for row in rows
            if row[0] in keys
        )
    return found


def series_keys(connection: sqlite3.Connection, number: int, kind: Kind) -> dict[int, SeriesKey]:
    """Return the names of a cluster's series of a kind, by sid."""
    return {
        sid: SeriesKey(kind, ns, name)
        for sid, ns, name in connection.execute(
            "SELECT sid, ns, name FROM series WHERE cluster = ? AND kind = ?",
            (number, schema.KIND_NUMBERS[kind]),
        )
    }


def load(
    connection: sqlite3.Connection,
    series: Series,
    kind: Kind,
    tier: str,
    rows: Iterable[StoredRow],
) -> int:
    """See :meth:`metrics.stores.base.MetricStore.load`; within the caller's transaction."""
    values = []
    for row in rows:
        sid = series.sid(row.key, row.ts)
        if sid is not None:
            values.append([row.ts, sid, row.n, *stored_values(tier, row.cells)])
    put = schema.upsert_minute(kind) if tier == "1m" else schema.upsert_bucket(kind, tier)
    connection.executemany(put, values)
    return len(values)


def all_series(connection: sqlite3.Connection, number: int) -> list[StoredSeries]:
    """See :meth:`metrics.stores.base.MetricStore.series`."""
    found: list[StoredSeries] = []
    for kind in sorted(schema.KINDS):
        rows = connection.execute(
            "SELECT ns, name, node, attrs, first_ts, coalesce(ts, first_ts)"  # noqa: S608
            f" FROM series LEFT JOIN {kind}_last USING(sid)"
            " WHERE cluster = ? AND kind = ? ORDER BY ns, name",
            (number, schema.KIND_NUMBERS[kind]),
        )
        found += [
            StoredSeries(SeriesKey(kind, ns, name), node, orjson.loads(attrs), first, last)
            for ns, name, node, attrs, first, last in rows
        ]
    return found


def put_series(
    connection: sqlite3.Connection, series: Series, entries: Iterable[StoredSeries]
) -> None:
    """See :meth:`metrics.stores.base.MetricStore.put_series`; within the caller's transaction."""
    changes = []
    for entry in entries:
        sid = series.sid(entry.key, entry.first_ts)
        attrs = orjson.dumps(dict(entry.attrs), option=orjson.OPT_SORT_KEYS).decode()
        changes.append((entry.node, attrs, sid))
    connection.executemany("UPDATE series SET node = ?, attrs = ? WHERE sid = ?", changes)


def put_last(connection: sqlite3.Connection, series: Series, rows: Iterable[LastRow]) -> None:
    """See :meth:`metrics.stores.base.MetricStore.put_last`; within the caller's transaction."""
    for row in rows:
        sid = series.sid(row.key, row.ts)
        if sid is None:
            continue
        if any(value is not None for value in row.values):
            values = [sid, row.ts, 0, *row.values]
            connection.execute(schema.upsert_last(row.key.kind), values)
        else:
            connection.execute(schema.insert_unmeasured(row.key.kind), (sid, row.ts))
        attrs = orjson.dumps(dict(row.attrs), option=orjson.OPT_SORT_KEYS).decode()
        connection.execute(
            "UPDATE series SET node = ?, attrs = ?"  # noqa: S608 - a kind's name
            f" WHERE sid = ? AND (SELECT ts FROM {row.key.kind}_last WHERE sid = ?) = ?",
            (row.node, attrs, sid, sid, row.ts),
        )
