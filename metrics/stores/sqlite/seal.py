"""Sealing in the SQLite store: settled rows are moved into chunks, and back for late data.

Each step is one short transaction, so that pulls wait for tens of milliseconds at most and a killed
process leaves every row either in its table or in a chunk.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any
from uuid import UUID

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind
from metrics.series.rollups import bucket_start
from metrics.series.windows import DAY
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.chunk_encoder import BLOCK_SERIES, Columns, encode, in_columns
from metrics.stores.sqlite.chunks import Chunk, DamagedChunkError, table_rows
from metrics.stores.sqlite.connection import Connections
from metrics.stores.sqlite.read import WALK, cluster_number
from metrics.stores.sqlite.rollup import settle_ended
from metrics.stores.sqlite.sealed import SPANS, describe, field_numbers, snapshot, spans
from metrics.stores.sqlite.sealed_maxima import pack_highs
from metrics.stores.sqlite.series import sid_range

SETTLED: dict[str, int] = {"1m": 7_200, "10m": 21_600, "1h": DAY}
"""How much newer a cluster's data must be than the end of a span for it to be sealed. Wider
tiers wait longer: the more rows a chunk has, the more late data costs."""

BUDGET_SECONDS = 300.0
"""How long one call seals."""

ABANDONED = 172_800
"""Spans that ended this long ago, in seconds, are sealed even without newer data."""

log = logging.getLogger(__name__)


def damaged(connection: sqlite3.Connection) -> list[str]:
    """Return a description of each chunk that is known to be damaged."""
    ids = connection.execute("SELECT id FROM chunk WHERE damaged ORDER BY id").fetchall()
    return [describe(connection, chunk_id) for (chunk_id,) in ids]


def verify(connections: Connections, limit: int | None = None) -> int:
    """Verify the checksums of chunks, and set damaged ones aside.

    Args:
        connections: the connections to the file.
        limit: maximum number of chunks, starting where the last run stopped; None for all.

    Returns:
        How many chunks were verified.
    """
    connection = connections.get()
    with connections.translated():
        (after,) = connection.execute(
            "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'verified'), 0)"
        ).fetchone()
        verified, bad = 0, []
        last = 0 if limit is None else after
        while limit is None or verified < limit:
            rows = connection.execute(
                "SELECT id, data FROM chunk_data JOIN chunk USING(id)"
                " WHERE id > ? AND NOT damaged ORDER BY id LIMIT 100",
                (last,),
            ).fetchall()
            for chunk_id, data in rows:
                try:
                    Chunk(data)
                except (DamagedChunkError, zlib.error) as exc:
                    bad.append((chunk_id, str(exc)))
            verified += len(rows)
            last = rows[-1][0] if rows else 0
            if not rows:
                break
    with connections.transaction() as writer:
        for chunk_id, why in bad:
            set_aside(writer, chunk_id, why)
        if limit is not None:
            writer.execute(
                "INSERT INTO meta VALUES('verified', ?)"
                " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                (str(last),),
            )
    return verified


def seal_due(
    connections: Connections, now: int, *, budget_seconds: float = BUDGET_SECONDS
) -> tuple[int, int]:
    """Seal every span that is settled, by kind and tier, the oldest first.

    When the budget is used up, the rest is left to the next call: a file of an older version may
    have weeks of rows.

    Returns:
        How many chunks were written, and how many rows they have.
    """
    stop_at = time.monotonic() + budget_seconds
    chunks = rows = 0
    connection = connections.get()
    with connections.translated():
        newest = _newest_by_cluster(connection)
    for number, ts in newest.items():
        with connections.transaction() as writer:
            settle_ended(writer, number, max(ts - SETTLED["1m"], now - ABANDONED))
    for kind in schema.KINDS:
        for tier in TIERS:
            for number, start in _settled(connections, kind, tier, newest, now):
                for count in _seal_span(connections, number, kind, tier, start):
                    chunks += 1
                    rows += count
                if time.monotonic() > stop_at:
                    return chunks, rows
    return chunks, rows


def unseal(connection: sqlite3.Connection, number: int, kind: Kind, times: Iterable[int]) -> None:
    """Move the rows of all chunks that contain some minutes back into the tables, in every tier.

    Within the caller's transaction, before it writes to these minutes. A damaged chunk is set
    aside: new data is stored in addition to it.
    """
    minutes = sorted(set(times))
    for tier in TIERS:
        unseal_tier(connection, number, kind, tier, spans(tier, minutes))


def unseal_tier(
    connection: sqlite3.Connection, number: int, kind: Kind, tier: str, starts: Iterable[int]
) -> None:
    """Move the rows of the chunks of some spans of one tier back into its table."""
    for start in starts:
        for chunk_id, since, data in _of_span(connection, number, kind, tier, start):
            try:
                rows = _unpacked(connection, kind, since, data)
            except (DamagedChunkError, zlib.error) as exc:
                set_aside(connection, chunk_id, str(exc))
            else:
                _put_back(connection, kind, tier, chunk_id, rows)


def unseal_early(
    connections: Connections, cluster: UUID, starts: Mapping[tuple[Kind, str], Iterable[int]]
) -> None:
    """Unseal the chunks that a write will need, so that it blocks others for a shorter time.

    Each is unpacked before the lock is acquired, and moved back in its own transaction; the write
    then finds rows. Chunks that are damaged, or change meanwhile, are left to the write.

    Args:
        connections: the connections to the file.
        cluster: the cluster that will be written.
        starts: starts of the spans in Unix seconds, by kind and tier.
    """
    reader = connections.get()
    with connections.translated():
        number = cluster_number(reader, cluster)
    if number is None:
        return
    for (kind, tier), its in starts.items():
        for start in its:
            with connections.translated():
                found = _of_span(reader, number, kind, tier, start)
            for chunk_id, since, data in found:
                try:
                    rows = _unpacked(reader, kind, since, data)
                except (DamagedChunkError, zlib.error):
                    continue  # the write reports it
                with connections.transaction() as writer:
                    if (chunk_id, since, data) in _of_span(writer, number, kind, tier, start):
                        _put_back(writer, kind, tier, chunk_id, rows)


def _of_span(
    connection: sqlite3.Connection, number: int, kind: Kind, tier: str, start: int
) -> list[tuple[int, int, bytes]]:
    """Return id, start of the rows not expired, and bytes of the good chunks of one span."""
    return connection.execute(
        "SELECT id, since, data FROM chunk JOIN chunk_data USING(id)"
        " WHERE cluster = ? AND kind = ? AND tier = ? AND t0 = ? AND NOT damaged",
        (number, schema.KIND_NUMBERS[kind], TIERS[tier], start),
    ).fetchall()


def _unpacked(
    connection: sqlite3.Connection, kind: Kind, since: int, data: bytes
) -> list[tuple[int | None, ...]]:
    """Return the rows of a chunk in their table's order, which makes inserts much faster."""
    known = field_numbers(connection)
    rows = table_rows(Chunk(data), [known.get(name, 0) for name in FIELD_NAMES[kind]], since=since)
    rows.sort(key=itemgetter(0))  # they come by series
    return rows


def _put_back(
    connection: sqlite3.Connection,
    kind: Kind,
    tier: str,
    chunk_id: int,
    rows: Iterable[tuple[int | None, ...]],
) -> None:
    connection.executemany(schema.insert_row(kind, tier), rows)
    connection.execute("DELETE FROM chunk WHERE id = ?", (chunk_id,))
    connection.execute("DELETE FROM chunk_data WHERE id = ?", (chunk_id,))


def set_aside(connection: sqlite3.Connection, chunk_id: int, why: str) -> None:
    """Mark a chunk as damaged within the caller's transaction: reads ignore it from then on."""
    log.error("a sealed chunk is damaged (%s): %s", describe(connection, chunk_id), why)
    connection.execute("UPDATE chunk SET damaged = 1 WHERE id = ?", (chunk_id,))


def _numbers(connection: sqlite3.Connection, kind: Kind) -> list[int]:
    """Return the numbers of a kind's fields, in catalogue order; create missing ones."""
    known = dict(connection.execute("SELECT name, id FROM field"))
    for name in FIELD_NAMES[kind]:
        if name not in known:
            connection.execute("INSERT INTO field(name) VALUES(?)", (name,))
            known = dict(connection.execute("SELECT name, id FROM field"))
    return [known[name] for name in FIELD_NAMES[kind]]


def _newest_by_cluster(connection: sqlite3.Connection) -> dict[int, int]:
    """Return each cluster's newest minute."""
    newest: dict[int, int] = {}
    for (number,) in connection.execute("SELECT id FROM cluster WHERE uuid NOT NULL").fetchall():
        for kind in schema.KINDS:
            (ts,) = connection.execute(
                f"SELECT max(ts) FROM {kind}_last WHERE sid BETWEEN ? AND ?",  # noqa: S608
                sid_range(number),
            ).fetchone()
            newest[number] = max(newest.get(number, 0), ts or 0)
    return newest


def _settled(
    connections: Connections, kind: Kind, tier: str, newest: dict[int, int], now: int
) -> Iterator[tuple[int, int]]:
    """Yield (cluster, start) of the settled spans that have rows in the table, by time."""
    table, span = f"{kind}_{tier}", SPANS[tier]
    last = max([now - ABANDONED, *(ts - SETTLED[tier] for ts in newest.values())])
    connection = connections.get()
    with connections.translated():
        (ts,) = connection.execute(f"SELECT min(ts) FROM {table}").fetchone()  # noqa: S608
    while ts is not None and bucket_start(ts, span) + span <= last:
        start = bucket_start(ts, span)
        with connections.translated():
            present = _clusters_within(connection, table, start, start + span)
        for number in sorted(present & newest.keys()):
            settled = max(newest[number] - SETTLED[tier], now - ABANDONED)
            if start + span <= settled:
                yield number, start
        with connections.translated():
            (ts,) = connection.execute(
                f"SELECT min(ts) FROM {table} WHERE ts >= ?",  # noqa: S608
                (start + span,),
            ).fetchone()


def _clusters_within(connection: sqlite3.Connection, table: str, start: int, end: int) -> set[int]:
    """Return the clusters that have rows within a span, by lookups instead of a scan."""
    found: set[int] = set()
    next_time = f"SELECT min(ts) FROM {table} WHERE ts >= ? AND ts < ?"  # noqa: S608
    next_sid = f"SELECT min(sid) FROM {table} WHERE ts = ? AND sid >= ?"  # noqa: S608
    with snapshot(connection):
        (ts,) = connection.execute(next_time, (start, end)).fetchone()
        while ts is not None:
            (sid,) = connection.execute(next_sid, (ts, 0)).fetchone()
            while sid is not None:
                number = sid >> schema.SID_BITS
                found.add(number)
                after = sid_range(number)[1] + 1
                (sid,) = connection.execute(next_sid, (ts, after)).fetchone()
            (ts,) = connection.execute(next_time, (ts + 1, end)).fetchone()
    return found


def _seal_span(
    connections: Connections, number: int, kind: Kind, tier: str, start: int
) -> Iterator[int]:
    """Seal one span of one cluster, a block of series per transaction; yield each one's rows."""
    times = range(start, start + SPANS[tier], TIERS[tier])
    connection = connections.get()
    with connections.translated():
        found = _rows(connection, f"{kind}_{tier}", "DISTINCT sid", times, sid_range(number))
    sids = sorted(sid for (sid,) in found)
    for at in range(0, len(sids), BLOCK_SERIES):
        block = sids[at : at + BLOCK_SERIES]
        with connections.transaction() as writer:
            count = _seal_block(writer, number, kind, tier, times, (block[0], block[-1]))
        if count:
            yield count


def _seal_block(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    tier: str,
    times: range,
    sids: tuple[int, int],
) -> int:
    """Move rows into a chunk within the caller's transaction; return how many."""
    columns = _columns(connection, kind, tier, times, sids)
    if not columns:
        return 0
    numbers = _numbers(connection, kind)
    data = encode(columns, numbers, start=times.start, step=times.step, buckets=len(times))
    chunk_id = connection.execute(
        "INSERT INTO chunk(cluster, kind, tier, t0, first_sid, last_sid, since, highs)"
        " VALUES(?, ?, ?, ?, ?, ?, 0, ?)",
        (number, schema.KIND_NUMBERS[kind], TIERS[tier], times.start, *sids,
         pack_highs(columns, numbers, wide=tier != "1m")),
    ).lastrowid  # fmt: skip
    connection.execute("INSERT INTO chunk_data VALUES(?, ?)", (chunk_id, data))
    connection.executemany(
        f"DELETE FROM {kind}_{tier} WHERE ts = ? AND sid BETWEEN ? AND ?",  # noqa: S608
        [(ts, *sids) for ts in times],
    )
    return len(columns[0])


def _columns(
    connection: sqlite3.Connection, kind: Kind, tier: str, times: range, sids: tuple[int, int]
) -> Columns:
    """Return rows as the columns of a chunk; empty if there are none.

    Reading is half of the work of sealing. Lows and highs are set only where a minute has several
    samples: if none has, they are not read.
    """
    table = f"{kind}_{tier}"
    names = schema.bucket_columns(kind) if tier != "1m" else schema.minute_columns(kind)
    means, ends = names[::3], [name for at, name in enumerate(names) if at % 3]
    some_end = f"AND ({' OR '.join(f'{name} NOT NULL' for name in ends)}) LIMIT 1"
    if tier != "1m" or _rows(connection, table, "1", times, sids, some_end):
        return in_columns(_rows(connection, table, ", ".join(("ts, sid, n", *names)), times, sids))
    rows = _rows(connection, table, ", ".join(("ts, sid, n", *means)), times, sids)
    columns = in_columns(rows)
    nothing = (None,) * len(rows)
    return [*columns[:3], *(part for mean in columns[3:] for part in (mean, nothing, nothing))]


def _rows(
    connection: sqlite3.Connection,
    table: str,
    what: str,
    times: range,
    sids: tuple[int, int],
    tail: str = "",
) -> list[tuple[Any, ...]]:
    """Return the selected columns of some series' rows, in the order of the table: by time."""
    return connection.execute(
        f"{WALK} SELECT {what} FROM walk CROSS JOIN {table}"  # noqa: S608 - our own names
        f" ON ts = t AND sid BETWEEN :low AND :high {tail}",
        {"first": times.start, "step": times.step, "end": times.stop,
         "low": sids[0], "high": sids[1]},
    ).fetchall()  # fmt: skip
