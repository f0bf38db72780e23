"""Reads of the SQLite store's sealed chunks.

The rows of one series and one span are either in the tables or in a chunk, never in both. A reader
of both uses one :func:`snapshot`.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from metrics.series.catalog import TIERS, Kind
from metrics.series.rollups import bucket_start
from metrics.series.windows import DAY
from metrics.stores.sqlite import schema
from metrics.stores.sqlite.chunks import Chunk, DamagedChunkError, Field

SPANS: dict[str, int] = {"1m": 3600, "10m": DAY, "1h": 864_000}
"""Seconds of one chunk: 60, 144 and 240 buckets."""

_WHERE = "cluster = ? AND kind = ? AND tier = ? AND t0 > ? AND t0 < ?"

TimeRange = tuple[int, int]
"""Start and end of a damaged chunk's rows in Unix seconds."""

log = logging.getLogger(__name__)
_logged: set[tuple[int, int]] = set()


@dataclass(frozen=True, slots=True)
class Sealed:
    """An opened chunk, and the Unix time before which its rows have expired."""

    id: int
    chunk: Chunk
    since: int

    def times(self, start: int, end: int) -> list[int | None]:
        """Return each bucket's start; None where it is outside of the requested range."""
        chunk = self.chunk
        start = max(start, self.since)
        every = range(chunk.start, chunk.start + chunk.step * chunk.buckets, chunk.step)
        return [ts if start <= ts < end else None for ts in every]


class ChunkHeader(NamedTuple):
    """What is known about a chunk without opening it.

    Attributes:
        first: the lowest number of a series in it.
        last: the highest number of a series in it.
        id: the chunk's id.
        since: Unix time in seconds; rows before it have expired.
        highs: the largest value of each field (:mod:`metrics.stores.sqlite.sealed_maxima`); None
            for chunks written with version 2 of the schema.
    """

    first: int
    last: int
    id: int
    since: int
    highs: bytes | None


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all reads of a block see the same state; may be nested."""
    nested = connection.in_transaction
    if not nested:
        connection.execute("BEGIN")
    try:
        yield
    finally:
        if not nested and connection.in_transaction:
            connection.execute("COMMIT")


def field_numbers(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the numbers that chunks use for fields."""
    return dict(connection.execute("SELECT name, id FROM field"))


def find(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    tier: str,
    start: int,
    end: int,
    sid: int | None = None,
    damaged: list[TimeRange] | None = None,
) -> Iterator[Sealed]:
    """Yield the good chunks of a cluster that overlap ``[start, end)``, by time.

    Damaged ones are left out, logged once and appended to ``damaged``. ``sid`` leaves out chunks
    without that series.
    """
    values: list[int] = [
        number, schema.KIND_NUMBERS[kind], TIERS[tier], start - SPANS[tier], end
    ]  # fmt: skip
    where = _WHERE
    if sid is not None:
        where += " AND first_sid <= ? AND last_sid >= ?"
        values += [sid, sid]
    rows = connection.execute(
        "SELECT id, t0, since, data FROM chunk JOIN chunk_data USING(id)"  # noqa: S608
        f" WHERE {where} AND NOT damaged ORDER BY t0, first_sid",
        values,
    )
    for chunk_id, t0, since, data in rows:
        sealed = _open(connection, chunk_id, since, data)
        if sealed is not None:
            yield sealed
        elif damaged is not None:
            damaged.append((max(t0, since), t0 + SPANS[tier]))


def known_damage(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    tier: str,
    span: tuple[int, int],
    sid: int,
) -> list[TimeRange]:
    """Return the ranges of a series' chunks that are known to be damaged."""
    rows = connection.execute(
        "SELECT max(t0, since), t0 + ? FROM chunk INDEXED BY chunk_damaged"  # noqa: S608
        f" WHERE damaged AND {_WHERE} AND first_sid <= ? AND last_sid >= ?",
        (SPANS[tier], number, schema.KIND_NUMBERS[kind], TIERS[tier], span[0] - SPANS[tier],
         span[1], sid, sid),
    )  # fmt: skip
    return rows.fetchall()


def chunk_headers(
    connection: sqlite3.Connection, number: int, kind: Kind, tier: str, start: int, end: int
) -> list[ChunkHeader]:
    """Return the headers of a cluster's chunks that overlap ``[start, end)``."""
    rows = connection.execute(
        f"SELECT first_sid, last_sid, id, since, highs FROM chunk WHERE {_WHERE}"  # noqa: S608
        " AND NOT damaged",
        (number, schema.KIND_NUMBERS[kind], TIERS[tier], start - SPANS[tier], end),
    )
    return [ChunkHeader(*row) for row in rows]


def opened(connection: sqlite3.Connection, chunks: Iterable[ChunkHeader]) -> Iterator[Sealed]:
    """Yield the chunks of these headers, opened; damaged ones are left out and logged once."""
    for header in chunks:
        (data,) = connection.execute(
            "SELECT data FROM chunk_data WHERE id = ?", (header.id,)
        ).fetchone()
        sealed = _open(connection, header.id, header.since, data)
        if sealed is not None:
            yield sealed


def _open(connection: sqlite3.Connection, chunk_id: int, since: int, data: bytes) -> Sealed | None:
    try:
        return Sealed(chunk_id, Chunk(data), since)
    except (DamagedChunkError, zlib.error) as exc:
        _log_damage(connection, chunk_id, str(exc))
        return None


def read_series(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    fields: Sequence[str],
    tier: str,
    span: tuple[int, int],
    sid: int,
) -> tuple[list[tuple[int | None, ...]], list[TimeRange]]:
    """Return (ts, then n, total, low, high of each field) of one series, ascending.

    The second part are the ranges that cannot be read, in any order.
    """
    numbers = field_numbers(connection)
    found: list[tuple[int | None, ...]] = []
    damaged = known_damage(connection, number, kind, tier, span, sid)
    for sealed in find(connection, number, kind, tier, *span, sid, damaged):
        chunk = sealed.chunk
        at = bisect_left(chunk.sids, sid)
        if at == len(chunk.sids) or chunk.sids[at] != sid:
            continue
        read = chunk.read([numbers[name] for name in fields if name in numbers], at)
        nothing: list[int | None] = [None] * chunk.buckets
        empty = Field(nothing, nothing, nothing, nothing)
        columns: list[list[int | None]] = [sealed.times(*span)]
        for name in fields:
            field = read.get(numbers.get(name, 0), empty)
            columns += [field.n, field.total, field.low, field.high]
        found += [row for row in zip(*columns, strict=True) if row[0] is not None]
    return found, damaged


def absent(
    damaged: Iterable[TimeRange], step: int, start: int, end: int, present: Set[int]
) -> tuple[TimeRange, ...]:
    """Return the parts of damaged ranges in ``[start, end)`` without those ``present``, joined."""
    lost = {
        ts
        for first, last in damaged
        for ts in range(first, last, step)
        if start <= ts < end and ts not in present
    }
    begins = sorted(ts for ts in lost if ts - step not in lost)
    ends = sorted(ts + step for ts in lost if ts + step not in lost)
    return tuple(zip(begins, ends, strict=True))


def read_all(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    field: str,
    tier: str,
    span: tuple[int, int],
) -> Iterator[tuple[int, list[tuple[int, int, int, int | None, int | None]]]]:
    """Yield (sid, its (ts, n, total, low, high)) of every series of each chunk, by time."""
    numbers = field_numbers(connection)
    if field not in numbers:
        return
    for sealed in find(connection, number, kind, tier, *span):
        chunk = sealed.chunk
        read = chunk.read([numbers[field]]).get(numbers[field])
        if read is None:
            continue
        times = sealed.times(*span)
        for at, sid in enumerate(chunk.sids):
            part = slice(at * chunk.buckets, (at + 1) * chunk.buckets)
            rows = zip(
                times, read.n[part], read.total[part], read.low[part], read.high[part], strict=True
            )
            measured = [
                (ts, n, total, low, high)
                for ts, n, total, low, high in rows
                if ts is not None and n is not None and total is not None
            ]
            if measured:
                yield sid, measured


def describe(connection: sqlite3.Connection, chunk_id: int) -> str:
    """Return a description of a chunk's content, for display."""
    row = connection.execute(
        "SELECT uuid, kind, tier, t0 FROM chunk JOIN cluster ON cluster.id = cluster"
        " WHERE chunk.id = ?",
        (chunk_id,),
    ).fetchone()
    if row is None:
        return f"chunk {chunk_id}"
    uuid, kind, tier, t0 = row
    width = next(name for name, seconds in TIERS.items() if seconds == tier)
    begin = datetime.fromtimestamp(t0, UTC)
    return f"{width} of {schema.KINDS[kind]}s of cluster {uuid} from {begin:%Y-%m-%d %H:%M} UTC"


def spans(tier: str, times: Sequence[int]) -> list[int]:
    """Return the starts of the chunks' spans that contain some times, ascending."""
    return sorted({bucket_start(ts, SPANS[tier]) for ts in times})


def _log_damage(connection: sqlite3.Connection, chunk_id: int, why: str) -> None:
    """Log a damaged chunk once per process."""
    if (id(log), chunk_id) not in _logged:
        _logged.add((id(log), chunk_id))
        log.error(
            "a sealed chunk is damaged and left out of answers (%s): %s",
            describe(connection, chunk_id), why,
        )  # fmt: skip
