"""Reading and writing of complete rows and series, for copies, exports and checks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind
from metrics.series.rollups import bucket_start, coarse, minute
from metrics.series.rows import SeriesKey
from metrics.stores.copier import StoredRow, StoredSeries
from metrics.stores.errors import StoreError
from metrics.stores.reader import LastRow
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.chunks import table_rows
from metrics.stores.sqlite.read import series_keys
from metrics.stores.sqlite.rollup import open_buckets, settle
from metrics.stores.sqlite.rows import stored_cells, stored_values
from metrics.stores.sqlite.seal import unseal_tier
from metrics.stores.sqlite.sealed import SPANS, field_numbers, find, snapshot, spans
from metrics.stores.sqlite.series import Series, sid_range

_MOST = 1 << 31  # samples, nodes or minutes of a row


def scan(
    connection: sqlite3.Connection, number: int, kind: Kind, tier: str, start: int, end: int
) -> Iterator[StoredRow]:
    """See :meth:`metrics.stores.copier.MetricCopier.scan`; ``number`` is the cluster's."""
    width = SPANS[tier]
    begin: int | None = start
    while begin is not None and begin < end:
        block = bucket_start(begin, width)
        with snapshot(connection):
            found = _rows(
                connection, number, kind, tier, max(start, block), min(end, block + width)
            )
            begin = _next(connection, number, kind, tier, block + width)
        yield from found


def _next(
    connection: sqlite3.Connection, number: int, kind: Kind, tier: str, start: int
) -> int | None:
    """Return where data may begin at or after the start of a span; None if there is none."""
    (row,) = connection.execute(
        f"SELECT min(ts) FROM {kind}_{tier} WHERE ts >= ?",  # noqa: S608 - our own names
        (start,),
    ).fetchone()
    (bucket,) = connection.execute(
        "SELECT min(ts) FROM open_bucket WHERE cluster = ? AND kind = ? AND tier = ? AND ts >= ?",
        (number, schema.KIND_NUMBERS[kind], TIERS[tier], start),
    ).fetchone()
    (chunk,) = connection.execute(
        "SELECT min(t0) FROM chunk"
        " WHERE cluster = ? AND kind = ? AND tier = ? AND t0 >= ? AND NOT damaged",
        (number, schema.KIND_NUMBERS[kind], TIERS[tier], start),
    ).fetchone()
    return min((ts for ts in (row, bucket, chunk) if ts is not None), default=None)


def _rows(
    connection: sqlite3.Connection, number: int, kind: Kind, tier: str, start: int, end: int
) -> list[StoredRow]:
    """Return the rows of one span, sorted."""
    step = TIERS[tier]
    columns = ", ".join(
        schema.minute_columns(kind) if tier == "1m" else schema.bucket_columns(kind)
    )
    low, high = sid_range(number)
    query = (
        f"SELECT ts, sid, n, {columns} FROM {kind}_{tier}"  # noqa: S608 - our own names
        " WHERE ts = ? AND sid BETWEEN ? AND ?"
    )
    still_open = open_buckets(connection, number, kind, tier, (start, end), FIELD_NAMES[kind])
    rows: list[Any] = [
        (ts, sid, *row) for ts, by_sid in still_open.items() for sid, row in by_sid.items()
    ]
    rows += [
        row
        for ts in range(-(-start // step) * step, end, step)
        if ts not in still_open
        for row in connection.execute(query, (ts, low, high))
    ]
    known = field_numbers(connection)
    numbers = [known.get(name, 0) for name in FIELD_NAMES[kind]]
    for sealed in find(connection, number, kind, tier, start, end):
        since = max(start, sealed.since)
        rows += [
            row for row in table_rows(sealed.chunk, numbers, since=since) if (row[0] or 0) < end
        ]
    keys = series_keys(connection, number, kind)
    return sorted(
        StoredRow(row[0], keys[row[1]], row[2], stored_cells(tier, row[3:]))
        for row in rows
        if row[1] in keys
    )


def load(
    connection: sqlite3.Connection,
    series: Series,
    kind: Kind,
    tier: str,
    rows: Iterable[StoredRow],
) -> int:
    """See :meth:`metrics.stores.copier.MetricCopier.load`; in the caller's transaction."""
    values, times = [], []
    for row in rows:
        _check(row, tier)
        sid = series.sid(row.key, row.ts)
        if sid is not None:
            times.append(row.ts)
            values.append([row.ts, sid, row.n, *stored_values(tier, row.cells)])
    settle(connection, series.cluster, (kind,))
    unseal_tier(connection, series.cluster, kind, tier, spans(tier, times))
    put = schema.upsert_minute(kind) if tier == "1m" else schema.upsert_bucket(kind, tier)
    connection.executemany(put, values)
    return len(values)


def _check(row: StoredRow, tier: str) -> None:
    """Raise StoreError for a row that is not from one of our stores: it could not be sealed."""
    width = TIERS[tier]
    cells = [cell for cell in row.cells if cell is not None]
    good = row.ts % width == 0 and 0 <= row.n <= _MOST
    if tier == "1m":
        good = good and all(cell.n == 1 and minute(cell) == cell for cell in cells)
    else:
        good = good and all(coarse(cell, width) is not None for cell in cells)
    if not good:
        msg = f"not a valid {tier} row: {row.key.kind} {row.key.name} at {row.ts}"
        raise StoreError(msg)


def all_series(connection: sqlite3.Connection, number: int) -> list[StoredSeries]:
    """See :meth:`metrics.stores.copier.MetricCopier.series`."""
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
    """See :meth:`metrics.stores.copier.MetricCopier.put_series`; in the caller's transaction."""
    changes = []
    for entry in entries:
        sid = series.sid(entry.key, entry.first_ts)
        attrs = orjson.dumps(dict(entry.attrs), option=orjson.OPT_SORT_KEYS).decode()
        changes.append((entry.node, attrs, sid))
    connection.executemany("UPDATE series SET node = ?, attrs = ? WHERE sid = ?", changes)


def put_last(connection: sqlite3.Connection, series: Series, rows: Iterable[LastRow]) -> None:
    """See :meth:`metrics.stores.copier.MetricCopier.put_last`; in the caller's transaction."""
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
