"""The largest series of a range in the SQLite store.

Sums are made where the numbers lie, by SQL and over a chunk's columns; only what may be among the
largest gets its name and is compared exactly. Where all of a range lies in a table, most series
are not even added up (:mod:`metrics.stores.sqlite_bound`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from heapq import nlargest
from itertools import chain
from typing import Literal, NamedTuple
from uuid import UUID

from metrics.catalog import Kind
from metrics.stores.base import SeriesKey, TopRow
from metrics.stores.sqlite_bound import Bound
from metrics.stores.sqlite_read import WALK, check_field, cluster_number, walk_steps
from metrics.stores.sqlite_rollup import open_buckets
from metrics.stores.sqlite_schema import SID_BITS
from metrics.stores.sqlite_sealed import field_numbers, find, snapshot
from metrics.stores.sqlite_series import sid_range

By = Literal["mean", "max"]
_NAMES_AT_ONCE = 500
_NEAR = 1e-9  # how far a float quotient is off the exact one, at most, and much more


class _Sum(NamedTuple):
    """One series over the range; ``worth`` is what it is ranked by, nearly."""

    worth: float
    cluster: UUID
    sid: int
    n: int
    total: int
    high: int | None


def top(  # noqa: PLR0913 - a query's parameters
    connection: sqlite3.Connection,
    clusters: Iterable[UUID],
    kind: Kind,
    field: str,
    tier: str,
    start: int,
    end: int,
    *,
    limit: int,
    by: By,
) -> list[TopRow]:
    """See :meth:`metrics.stores.base.MetricStore.top`."""
    check_field(kind, field, tier)
    if start >= end or limit <= 0:
        return []
    sums: list[_Sum] = []
    bound = Bound(connection, kind, field, tier, (start, end), by)
    with snapshot(connection):
        numbers = {}
        for cluster in clusters:
            number = cluster_number(connection, cluster)
            if number is not None:
                numbers[number] = cluster
        plain = [number for number in numbers if bound.is_plain(number)]
        quick = bound.reaching(plain, limit)
        found: list[Iterable[tuple[int, int, int, int | None]]] = [quick or ()]
        slow = numbers if quick is None else numbers.keys() - set(plain)
        found += [_sums(connection, number, kind, field, tier, (start, end)) for number in slow]
        for sid, n, total, high in chain.from_iterable(found):
            cluster = numbers[sid >> SID_BITS]
            if by == "mean":
                sums.append(_Sum(total / n, cluster, sid, n, total, high))
            elif high is not None:
                sums.append(_Sum(float(high), cluster, sid, n, total, high))
    largest = nlargest(limit, sums)
    if not largest:
        return []
    least = largest[-1].worth
    least -= _NEAR * abs(least)
    rows = _named(connection, kind, [one for one in sums if one.worth >= least])
    if len(rows) < limit:  # some of the largest are forgotten series
        rows = _named(connection, kind, sums)
    return sorted(rows, key=partial(rank, by))[:limit]


def rank(by: str, row: TopRow) -> tuple[Fraction | int, str, str, UUID]:
    """Return what a top list is sorted by: the largest first, equals by name."""
    worth = Fraction(row.total, row.n) if by == "mean" else row.high or 0
    return (-worth, row.key.ns, row.key.name, row.cluster)


def _sums(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    field: str,
    tier: str,
    span: tuple[int, int],
) -> Iterable[tuple[int, int, int, int | None]]:
    """Yield (sid, n, total, high) of every series of a cluster that has the field in the span."""
    still_open = open_buckets(connection, number, kind, tier, span, (field,))
    rows = _hot(connection, number, kind, field, tier, span, tuple(still_open))
    sealed = list(_sealed(connection, number, kind, field, tier, span))
    later = [
        (sid, n, total, high)
        for by_sid in still_open.values()
        for sid, (_, n, total, _, high) in by_sid.items()
        if n is not None and total is not None
    ]
    if not sealed and not later:
        yield from rows
        return
    merged: dict[int, tuple[int, int, int | None]] = {}
    for sid, n, total, high in (*rows, *sealed, *later):
        if sid in merged:
            n, total = n + merged[sid][0], total + merged[sid][1]  # noqa: PLW2901
            high = _higher(high, merged[sid][2])  # noqa: PLW2901
        merged[sid] = (n, total, high)
    yield from ((sid, *entry) for sid, entry in merged.items())


def _higher(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _hot(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    field: str,
    tier: str,
    span: tuple[int, int],
    without: Sequence[int],
) -> list[tuple[int, int, int, int | None]]:
    """Return the sums of what is in the table, but for some bucket starts."""
    table = f"{kind}_{tier}"
    if tier == "1m":
        columns, there = f"count({field}), sum({field}), max(coalesce({field}_h, {field}))", field
    else:
        columns, there = f"sum({field}_n), sum({field}_s), max({field}_h)", f"{field}_s"
    low, high = sid_range(number)
    left_out = f" AND t NOT IN ({', '.join(map(str, without))})" if without else ""
    return connection.execute(
        f"{WALK} SELECT sid, {columns} FROM walk CROSS JOIN {table}"  # noqa: S608 - our own names
        f" ON ts = t AND sid BETWEEN :low AND :high WHERE {there} IS NOT NULL AND t < :end"
        f"{left_out} GROUP BY sid",
        {**walk_steps(connection, table, tier, *span), "low": low, "high": high},
    ).fetchall()


def _sealed(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    field: str,
    tier: str,
    span: tuple[int, int],
) -> Iterator[tuple[int, int, int, int | None]]:
    """Yield the sums of each series and chunk."""
    numbers = field_numbers(connection)
    if field not in numbers:
        return
    for sealed in find(connection, number, kind, tier, *span):
        chunk = sealed.chunk
        read = chunk.read([numbers[field]]).get(numbers[field])
        wanted = [at for at, ts in enumerate(sealed.times(*span)) if ts is not None]
        if read is None or not wanted:
            continue
        for at, sid in enumerate(chunk.sids):
            part = slice(at * chunk.slots + wanted[0], at * chunk.slots + wanted[-1] + 1)
            counts = [n for n in read.n[part] if n is not None]
            if counts:
                total = sum(value for value in read.total[part] if value is not None)
                highs = [value for value in read.high[part] if value is not None]
                yield sid, sum(counts), total, max(highs, default=None)


def _named(connection: sqlite3.Connection, kind: Kind, sums: Sequence[_Sum]) -> list[TopRow]:
    """Return the rows of sums with their names; series that went meanwhile are left out."""
    names: dict[int, SeriesKey] = {}
    for first in range(0, len(sums), _NAMES_AT_ONCE):
        sids = [one.sid for one in sums[first : first + _NAMES_AT_ONCE]]
        places = ", ".join("?" * len(sids))
        query = f"SELECT sid, ns, name FROM series WHERE sid IN ({places})"  # noqa: S608
        names |= {
            sid: SeriesKey(kind, ns, name) for sid, ns, name in connection.execute(query, sids)
        }
    return [
        TopRow(one.cluster, names[one.sid], one.n, one.total, one.high)
        for one in sums
        if one.sid in names
    ]
