"""Write a source's own wider buckets to the SQLite store."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind
from metrics.series.rollups import bucket_start, cluster_bucket
from metrics.series.rows import CoarseRow, SeriesKey
from metrics.stores.errors import StoreError
from metrics.stores.sqlite import rollup, schema
from metrics.stores.sqlite.rows import Values, bucket_values, coarse_values, stored_cells
from metrics.stores.sqlite.seal import unseal_tier
from metrics.stores.sqlite.sealed import spans
from metrics.stores.sqlite.series import Series

_CLUSTER_KEY = SeriesKey("cluster", "", "")


def newest_by_key(rows: Iterable[CoarseRow]) -> dict[SeriesKey, int]:
    """Return the time of each key's newest bucket; check the rows.

    Raises:
        StoreError: if a row is malformed.
    """
    newest: dict[SeriesKey, int] = {}
    for row in rows:
        key = row.key
        if row.tier == "1m" or row.tier not in TIERS:
            msg = f"a batch may not hold coarse rows of tier {row.tier}"
            raise StoreError(msg)
        if key.kind == "cluster" or row.ts % TIERS[row.tier] or row.ts < 0:
            msg = f"a batch may not hold {key.kind} rows of {row.tier} at {row.ts}"
            raise StoreError(msg)
        if len(row.cells) != len(FIELD_NAMES[key.kind]):
            msg = f"a {key.kind} row has {len(row.cells)} cells"
            raise StoreError(msg)
        if newest.get(key, -1) < row.ts:
            newest[key] = row.ts
    return newest


def write(
    connection: sqlite3.Connection, series: Series, rows: Iterable[CoarseRow]
) -> tuple[int, int]:
    """Write checked rows, the cluster's buckets and hours within the caller's transaction.

    Returns:
        How many cells were refused, and how many rows skipped.
    """
    tables: dict[tuple[str, Kind], list[Values]] = defaultdict(list)
    unmeasured: dict[Kind, dict[int, int]] = defaultdict(dict)
    refused = skipped = 0
    for row in rows:
        sid = series.sid(row.key, row.ts)
        if sid is None:
            skipped += 1
            continue
        values, bad = coarse_values(row, sid)
        refused += bad
        if not values[2]:
            continue
        tables[row.tier, row.key.kind].append(values)
        newest = unmeasured[row.key.kind]
        newest[sid] = max(row.ts, newest.get(sid, 0))
    kinds = {kind for _, kind in tables}
    rollup.settle(connection, series.cluster, kinds | ({"cluster"} if kinds else set()))
    # The 10-minute buckets first: hours are computed from them.
    for tier in ("10m", "1h"):
        for kind in schema.KINDS:
            _put(connection, series, kind, tier, tables.get((tier, kind), []))
    for kind, newest in unmeasured.items():
        connection.executemany(schema.insert_unmeasured(kind), newest.items())
    return refused, skipped


def _put(
    connection: sqlite3.Connection, series: Series, kind: Kind, tier: str, rows: list[Values]
) -> None:
    if not rows:
        return
    starts = sorted({row[0] for row in rows if row[0] is not None})
    for each in (kind, "cluster") if kind == "node" else (kind,):
        for wider in TIERS:
            if TIERS[wider] >= TIERS[tier]:
                unseal_tier(connection, series.cluster, each, wider, spans(wider, starts))
    connection.executemany(schema.upsert_coarse(kind, tier), rows)
    kinds = [kind]
    if kind == "node":
        _put_cluster(connection, series, tier, starts)
        kinds.append("cluster")
    if tier == "10m":
        hours = sorted({bucket_start(ts, TIERS["1h"]) for ts in starts})
        for each in kinds:
            for hour in hours:
                parts = range(hour, hour + TIERS["1h"], TIERS["10m"])
                connection.execute(schema.roll_up(each, "1h"), (hour, *parts, *series.sids))


def _put_cluster(
    connection: sqlite3.Connection, series: Series, tier: str, starts: list[int]
) -> None:
    """Compute the cluster's buckets from all nodes that are stored for them."""
    sid = series.sid(_CLUSTER_KEY, starts[0])
    if sid is None:
        return
    columns = ", ".join(schema.bucket_columns("node"))
    found: list[Values] = []
    for ts in starts:
        rows = connection.execute(
            f"SELECT n, {columns} FROM node_{tier} WHERE ts = ? AND sid BETWEEN ? AND ?",  # noqa: S608
            (ts, *series.sids),
        ).fetchall()
        cells = cluster_bucket([stored_cells(tier, row[1:]) for row in rows])
        found.append([ts, sid, max(row[0] for row in rows), *bucket_values(cells)])
    connection.executemany(schema.upsert_bucket("cluster", tier), found)
    connection.execute(schema.insert_unmeasured("cluster"), (sid, starts[-1]))
