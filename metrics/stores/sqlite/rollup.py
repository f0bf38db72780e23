"""Wider buckets of the SQLite store, computed from all stored finer ones when they close.

A bucket that still grows is not recomputed with every minute: it is recorded as *open*, and reads
compute it from the stored data. It is written once, when data after its end comes, or before its
minutes expire, are sealed, or other data is written into it. So each read gives the same result as
recomputing at once, for a tenth of the work.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from metrics.series.catalog import TIERS, Kind
from metrics.series.rollups import bucket_start
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.series import sid_range

Bucket = list[int | None]
"""n, then n, total, low, high of each field."""

_FINER = {"10m": "1m", "1h": "10m"}
_WIDER = ("10m", "1h")


def touch(
    connection: sqlite3.Connection,
    cluster: int,
    minutes: Mapping[Kind, Iterable[int]],
    newest_end: int,
) -> None:
    """Update the buckets of the written minutes, or record them as open.

    Open ones that have closed since are written too. Within the caller's transaction.

    Args:
        connection: the connection that wrote the minutes.
        cluster: the cluster's number.
        minutes: starts of the written minutes in Unix seconds, by kind.
        newest_end: end of the cluster's newest data in Unix seconds: buckets that end later are
            open.
    """
    were_open = _open(connection, cluster)
    for tier in _WIDER:
        width = TIERS[tier]
        due = {(kind, ts) for kind, its, ts in were_open if its == tier}
        due |= {(kind, bucket_start(ts, width)) for kind in minutes for ts in minutes[kind]}
        closed = {(kind, ts) for kind, ts in due if ts + width <= newest_end}
        _write(connection, cluster, tier, closed)
        connection.executemany(
            "INSERT OR IGNORE INTO open_bucket VALUES(?, ?, ?, ?)",
            [
                (cluster, schema.KIND_NUMBERS[kind], width, ts)
                for kind, ts in due - closed
                if (kind, tier, ts) not in were_open
            ],
        )
        _forget(connection, cluster, tier, [b for b in closed if (b[0], tier, b[1]) in were_open])


def settle(
    connection: sqlite3.Connection, cluster: int, kinds: Iterable[Kind] = schema.KINDS
) -> None:
    """Write every open bucket of some kinds, within the caller's transaction."""
    wanted = set(kinds)
    were_open = {entry for entry in _open(connection, cluster) if entry[0] in wanted}
    for tier in _WIDER:
        due = {(kind, ts) for kind, its, ts in were_open if its == tier}
        _write(connection, cluster, tier, due)
        _forget(connection, cluster, tier, due)


def settle_older(connection: sqlite3.Connection, cluster: int, kind: Kind, before: int) -> None:
    """Write all open buckets of a kind if one of them begins before ``before``."""
    if any(k == kind and ts < before for k, _, ts in _open(connection, cluster)):
        settle(connection, cluster, (kind,))


def settle_ended(connection: sqlite3.Connection, cluster: int, before: int) -> None:
    """Write all open buckets if one of them ended by ``before``."""
    if any(ts + TIERS[tier] <= before for _, tier, ts in _open(connection, cluster)):
        settle(connection, cluster)


def open_buckets(
    connection: sqlite3.Connection,
    cluster: int,
    kind: Kind,
    tier: str,
    span: tuple[int, int],
    columns: Sequence[str],
    sids: tuple[int, int] | None = None,
) -> dict[int, dict[int, Bucket]]:
    """Return the open buckets of a tier as they would be if they were written now.

    Args:
        connection: the connection to read from.
        cluster: the cluster's number.
        kind: the series' kind.
        tier: the tier; the 1m tier has no open buckets.
        span: first bucket start and the end of the starts, exclusive, in Unix seconds.
        columns: names of the kind's fields.
        sids: lowest and highest number of the series; None for all of the cluster.

    Returns:
        Bucket start -> sid -> bucket, ascending. They include the rows stored for these starts.
    """
    if tier == "1m":
        return {}
    found = sorted(
        ts
        for its_kind, its_tier, ts in _open(connection, cluster)
        if its_kind == kind and its_tier == tier and span[0] <= ts < span[1]
    )
    reader = _Reader(connection, cluster, kind, columns, sids or sid_range(cluster))
    return {ts: reader.bucket(tier, ts) for ts in found}


class _Reader:
    """Computes the open buckets of some fields and series."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        cluster: int,
        kind: Kind,
        fields: Sequence[str],
        sids: tuple[int, int],
    ) -> None:
        self._connection = connection
        self._kind: Kind = kind
        self._fields = fields
        self._sids = sids
        self._open = {entry[1:] for entry in _open(connection, cluster) if entry[0] == kind}

    def bucket(self, tier: str, ts: int) -> dict[int, Bucket]:
        """Return a bucket by sid: as stored, or computed if it is open and its n is not smaller."""
        names = schema.wide_columns(self._fields)
        found: dict[int, Bucket] = {
            sid: bucket
            for sid, *bucket in self._connection.execute(
                f"SELECT sid, n, {', '.join(names)} FROM {self._kind}_{tier}"  # noqa: S608
                " WHERE ts = ? AND sid BETWEEN ? AND ?",
                (ts, *self._sids),
            )
        }
        if (tier, ts) in self._open:
            computed = self._from_minutes(ts) if tier == "10m" else self._from_buckets(ts)
            for sid, bucket in computed.items():
                if sid not in found or (bucket[0] or 0) >= (found[sid][0] or 0):
                    found[sid] = bucket
        return found

    def _from_minutes(self, ts: int) -> dict[int, Bucket]:
        values = ", ".join(schema.merged_minutes(self._fields))
        minutes = range(ts, ts + TIERS["10m"], TIERS["1m"])
        rows = self._connection.execute(
            f"SELECT sid, count(*), {values} FROM {self._kind}_1m"  # noqa: S608 - our own names
            f" WHERE ts IN ({', '.join(map(str, minutes))}) AND sid BETWEEN ? AND ? GROUP BY sid",
            self._sids,
        )
        return {sid: bucket for sid, *bucket in rows}

    def _from_buckets(self, ts: int) -> dict[int, Bucket]:
        parts: dict[int, list[Bucket]] = defaultdict(list)
        for start in range(ts, ts + TIERS["1h"], TIERS["10m"]):
            for sid, bucket in self.bucket("10m", start).items():
                parts[sid].append(bucket)
        return {sid: _merged(buckets) for sid, buckets in parts.items()}


def _merged(buckets: Sequence[Bucket]) -> Bucket:
    """Merge buckets as :func:`metrics.stores.sqlite.schema.roll_up` does."""
    merged: Bucket = [sum(bucket[0] or 0 for bucket in buckets)]
    for at in range(1, len(buckets[0]), 4):
        cells = [bucket[at : at + 4] for bucket in buckets if bucket[at + 1] is not None]
        if not cells:
            merged += (None, None, None, None)
            continue
        counts, totals, lows, highs = (
            [value for value in column if value is not None] for column in zip(*cells, strict=True)
        )
        merged += (
            sum(counts),
            sum(totals),
            min(lows) if len(lows) == len(cells) else None,
            max(highs) if len(highs) == len(cells) else None,
        )
    return merged


def _open(connection: sqlite3.Connection, cluster: int) -> set[tuple[Kind, str, int]]:
    """Return the open buckets of a cluster as (kind, tier, start)."""
    names = {width: tier for tier, width in TIERS.items()}
    rows = connection.execute(
        "SELECT kind, tier, ts FROM open_bucket WHERE cluster = ?", (cluster,)
    )
    return {(schema.KINDS[kind], names[tier], ts) for kind, tier, ts in rows}


def _write(
    connection: sqlite3.Connection, cluster: int, tier: str, buckets: Iterable[tuple[Kind, int]]
) -> None:
    """Recompute buckets from all of the finer tier."""
    step, width = TIERS[_FINER[tier]], TIERS[tier]
    for kind, start in sorted(buckets):
        parts = range(start, start + width, step)
        statement = schema.roll_up(kind, tier)
        connection.execute(statement, (start, *parts, *sid_range(cluster)))


def _forget(
    connection: sqlite3.Connection, cluster: int, tier: str, buckets: Iterable[tuple[Kind, int]]
) -> None:
    connection.executemany(
        "DELETE FROM open_bucket WHERE cluster = ? AND kind = ? AND tier = ? AND ts = ?",
        [(cluster, schema.KIND_NUMBERS[kind], TIERS[tier], ts) for kind, ts in buckets],
    )
