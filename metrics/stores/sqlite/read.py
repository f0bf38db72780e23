"""Reads of the SQLite store's buckets.

The tables are ordered by time, so reading one series is a loop over the bucket starts with one
lookup each (3 ms for a day of minutes); a plain ``WHERE sid = ? AND ts BETWEEN`` would read every
cluster's rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from uuid import UUID

from metrics.series.catalog import TIERS, Kind, field_of
from metrics.series.rollups import bucket_start
from metrics.series.rows import Columns, SeriesKey
from metrics.stores.errors import StoreError
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.rollup import Bucket, open_buckets
from metrics.stores.sqlite.sealed import absent, read_all, read_series, snapshot
from metrics.stores.sqlite.series import sid_range

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
        present_at = {row[0] for row in rows}  # late data, stored in addition to the damaged chunk
        missing = absent(damaged, TIERS[tier], start, end, present_at)
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
    """Replace the table's rows of open buckets by their current values."""
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


def walk_steps(
    connection: sqlite3.Connection, table: str, tier: str, start: int, end: int
) -> dict[str, int]:
    """Return the parameters of :data:`WALK` for the table's bucket starts in ``[start, end)``."""
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
        StoreError: the catalogue has no such field or tier, so names are never used unchecked.
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
    """Return the condition that the bucket has the field, and is within the range."""
    return f"{field if tier == '1m' else field + '_s'} IS NOT NULL AND t < :end"
