"""Write one batch to the SQLite store: minutes, cluster minutes, rollups, last values, ledger."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import orjson

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind
from metrics.series.minute_columns import Minutes
from metrics.series.rollups import cluster_minute
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.stores.errors import StoreError
from metrics.stores.sqlite import coarse, rollup, schema
from metrics.stores.sqlite import columns as sqlite_columns
from metrics.stores.sqlite.columns import Row
from metrics.stores.sqlite.rows import minute_table
from metrics.stores.sqlite.seal import unseal
from metrics.stores.sqlite.sealed import spans
from metrics.stores.sqlite.series import Series
from metrics.stores.writer import Batch, WriteResult

CLUSTER_KEY = SeriesKey("cluster", "", "")


def write(connection: sqlite3.Connection, series: Series, stream: str, batch: Batch) -> WriteResult:
    """Write a batch within the caller's transaction.

    Args:
        connection: a connection in a transaction that holds the write lock.
        series: the series of the batch's cluster.
        stream: the stream's name, e.g. "agent".
        batch: the batch to write.

    Raises:
        StoreError: the batch is malformed.
        sqlite3.Error: the file refuses.
    """
    newest = _newest_by_key(batch.rows)
    for key, start in coarse.newest_by_key(batch.coarse).items():
        newest.setdefault(key, start)
    tables, refused, skipped = _values(batch.rows, series)
    _put_infos(connection, series, batch, newest)
    minutes: dict[Kind, set[int]] = {}
    for kind, table in tables.items():
        minutes[kind] = {ts for values in table if (ts := values[0]) is not None}
        unseal(connection, series.cluster, kind, minutes[kind])
        _put_rows(connection, kind, table)
    if "node" in minutes:
        unseal(connection, series.cluster, "cluster", minutes["node"])
        cluster_rows = _cluster_rows(connection, series, sorted(minutes["node"]))
        _put_rows(connection, "cluster", cluster_rows)
        minutes["cluster"] = minutes["node"]
    _roll_up(connection, series, minutes)
    if batch.coarse:
        bad, left_out = coarse.write(connection, series, batch.coarse)
        refused, skipped = refused + bad, skipped + left_out

    _put_windows(connection, series.cluster, stream, batch)
    _put_position(connection, series.cluster, stream, batch)
    series.finish(connection)
    return WriteResult(refused, skipped, _detail(refused, skipped, series.problem))


def spans_of(batch: Batch) -> dict[tuple[Kind, str], set[int]]:
    """Return the starts of the chunk spans that a batch writes to, by kind and tier."""
    times: dict[tuple[Kind, str], set[int]] = defaultdict(set)
    if isinstance(batch.rows, Minutes):
        for table in batch.rows.tables:
            times[table.kind, "1m"].update(table.times)
    else:
        for row in batch.rows:
            times[row.key.kind, "1m"].add(row.ts)
    for wider in batch.coarse:
        times[wider.key.kind, wider.tier].add(wider.ts)
    found: dict[tuple[Kind, str], set[int]] = defaultdict(set)
    for (kind, finest), its in times.items():
        for tier, width in TIERS.items():
            if width >= TIERS.get(finest, 0):
                starts = spans(tier, sorted(its))
                found[kind, tier].update(starts)
                if kind == "node":  # the cluster's rows are computed from them
                    found["cluster", tier].update(starts)
    return found


def _values(rows: Sequence[MinuteRow], series: Series) -> tuple[dict[Kind, list[Row]], int, int]:
    """Return the rows by kind, how many values were refused, and how many rows skipped."""
    tables: dict[Kind, list[Row]] = defaultdict(list)
    refused = skipped = 0
    if isinstance(rows, Minutes):
        for columns in rows.tables:
            encoded, bad, left_out = sqlite_columns.table_values(columns, series)
            if encoded:
                tables[columns.kind] += encoded
            refused, skipped = refused + bad, skipped + left_out
        return tables, refused, skipped
    by_kind, skipped = _by_kind(series, rows)
    for kind, (of_kind, sids) in by_kind.items():
        tables[kind], bad = minute_table(of_kind, sids)
        refused += bad
    return tables, refused, skipped


def _by_kind(
    series: Series, rows: Iterable[MinuteRow]
) -> tuple[dict[Kind, tuple[list[MinuteRow], list[int]]], int]:
    """Return the rows of each kind with their series' numbers, and how many have none."""
    found: dict[Kind, tuple[list[MinuteRow], list[int]]] = {}
    skipped = 0
    for row in rows:
        key = row.key
        sid = series.sid(key, row.ts)
        if sid is None:
            skipped += 1
            continue
        if key.kind not in found:
            found[key.kind] = ([], [])
        of_kind, sids = found[key.kind]
        of_kind.append(row)
        sids.append(sid)
    return found, skipped


def _newest_by_key(rows: Iterable[MinuteRow]) -> dict[SeriesKey, int]:
    """Return the time of each key's newest minute; check the rows."""
    newest: dict[SeriesKey, int] = {}
    if isinstance(rows, Minutes):
        for table in rows.tables:
            for key, ts in sqlite_columns.newest_by_key(table).items():
                newest[key] = max(ts, newest.get(key, ts))
        return newest
    for row in rows:
        key = row.key
        if key.kind == "cluster" or row.ts % TIERS["1m"] or row.ts < 0:
            msg = f"a batch may not hold {key.kind} rows at {row.ts}"
            raise StoreError(msg)
        if len(row.cells) != len(FIELD_NAMES[key.kind]):
            msg = f"a {key.kind} row has {len(row.cells)} cells"
            raise StoreError(msg)
        if newest.get(key, -1) < row.ts:
            newest[key] = row.ts
    return newest


def _detail(refused: int, skipped: int, problem: str) -> str:
    parts = []
    if refused:
        parts.append(f"{refused} values refused: out of range or contradictory")
    if skipped:
        parts.append(f"{skipped} rows skipped: {problem}")
    return "; ".join(parts)


def _put_rows(connection: sqlite3.Connection, kind: Kind, rows: Sequence[Row]) -> None:
    """Write minutes, and the newest of each series as its last values."""
    connection.executemany(schema.upsert_minute(kind), rows)
    newest: dict[int | None, Row] = {}
    for row in rows:
        known = newest.get(row[1])
        # ts first, then samples: the same order of preference as in the table.
        if known is None or (row[0], row[2]) >= (known[0], known[2]):
            newest[row[1]] = row
    connection.executemany(
        schema.upsert_last(kind),
        [(row[1], row[0], row[2], *row[3::3]) for row in newest.values()],
    )


def _cluster_rows(
    connection: sqlite3.Connection, series: Series, minutes: Sequence[int]
) -> list[Row]:
    """Compute the cluster's minutes from all nodes that are stored for them.

    The row's n is the number of nodes, so a row is never replaced by one over fewer nodes.
    """
    columns = ", ".join(
        f"{name}, coalesce({name}_l, {name}), coalesce({name}_h, {name})"
        for name in FIELD_NAMES["node"]
    )
    sid = series.sid(CLUSTER_KEY, minutes[0])
    if sid is None:
        return []
    found: list[Row] = []
    statement = f"SELECT {columns} FROM node_1m WHERE ts = ? AND sid BETWEEN ? AND ?"  # noqa: S608
    for ts in minutes:
        nodes = [
            tuple(
                None if row[at] is None else Cell(1, row[at], row[at + 1], row[at + 2])
                for at in range(0, len(row), 3)
            )
            for row in connection.execute(statement, (ts, *series.sids))
        ]
        cells = (
            (c.total, None if c.low == c.total else c.low, None if c.high == c.total else c.high)
            if c
            else (None, None, None)
            for c in cluster_minute(nodes)
        )
        found.append((ts, sid, len(nodes), *chain.from_iterable(cells)))
    return found


def _roll_up(
    connection: sqlite3.Connection, series: Series, minutes: Mapping[Kind, set[int]]
) -> None:
    """Update the buckets that contain these minutes, or record them as open."""
    newest = max((max(times) for times in minutes.values()), default=None)
    if newest is None:
        return
    (head,) = connection.execute(
        "SELECT max(head) FROM watermark WHERE cluster = ?", (series.cluster,)
    ).fetchone()
    newest_end = max(newest + TIERS["1m"], head or 0)
    rollup.touch(connection, series.cluster, minutes, newest_end)


def _put_infos(
    connection: sqlite3.Connection, series: Series, batch: Batch, newest: dict[SeriesKey, int]
) -> None:
    """Set node and attributes of series, unless the series already has newer data."""
    changes: dict[Kind, list[dict[str, object]]] = defaultdict(list)
    for info in batch.infos:
        key = info.key
        if key not in newest or series.is_known_as(info):
            continue
        sid = series.sid(key, newest[key])
        attrs = orjson.dumps(dict(info.attrs), option=orjson.OPT_SORT_KEYS).decode()
        changes[key.kind].append({"sid": sid, "node": info.node, "attrs": attrs, "ts": newest[key]})
        series.know_as(info)
    for kind, rows in changes.items():
        changed = connection.executemany(
            "UPDATE series SET node = :node, attrs = :attrs"  # noqa: S608 - a kind's name
            " WHERE sid = :sid AND (node != :node OR attrs != :attrs)"
            f" AND :ts >= coalesce((SELECT ts FROM {kind}_last WHERE sid = :sid), 0)",
            rows,
        )
        if changed.rowcount:
            series.outdate_others()


def _put_windows(connection: sqlite3.Connection, cluster: int, stream: str, batch: Batch) -> None:
    connection.executemany(
        "INSERT INTO pull_window VALUES(?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(cluster, stream, t0)"
        " DO UPDATE SET t1 = excluded.t1, state = excluded.state, got = excluded.got,"
        " expected = excluded.expected, attempts = excluded.attempts, reason = excluded.reason,"
        " detail = excluded.detail, filled_at = excluded.filled_at,"
        " resolution = excluded.resolution",
        [
            (cluster, stream, w.start, w.end, w.state, w.got, w.expected, w.attempts, w.reason,
             w.detail, w.filled_at, w.resolution)
            for w in batch.windows
        ],
    )  # fmt: skip


def _put_position(connection: sqlite3.Connection, cluster: int, stream: str, batch: Batch) -> None:
    if batch.watermark is None and batch.head is None:
        return
    connection.execute(
        "INSERT INTO watermark VALUES(?,?,?,?) ON CONFLICT(cluster, stream) DO UPDATE SET"
        " watermark = max(coalesce(watermark, excluded.watermark),"
        " coalesce(excluded.watermark, watermark)),"
        " head = max(coalesce(head, excluded.head), coalesce(excluded.head, head))",
        (cluster, stream, batch.watermark, batch.head),
    )
