"""The largest series of a range in the SQLite store.

Sums are computed in place, by SQL and over a chunk's columns; only series that may be among the
largest are named and compared exactly. Most series are not even added up: if the whole range is in
a table thanks to :mod:`metrics.stores.sqlite.top_candidates`, else thanks to
:mod:`metrics.stores.sqlite.sealed_maxima`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial
from heapq import nlargest
from itertools import chain
from typing import Literal, NamedTuple
from uuid import UUID

from metrics.series.catalog import Kind
from metrics.series.rows import SeriesKey
from metrics.stores.reader import TopRow
from metrics.stores.sqlite.read import WALK, check_field, cluster_number, walk_steps
from metrics.stores.sqlite.rollup import open_buckets
from metrics.stores.sqlite.schema import SID_BITS
from metrics.stores.sqlite.sealed import snapshot
from metrics.stores.sqlite.sealed_maxima import Groups, Sum, added, worth_of
from metrics.stores.sqlite.series import sid_range
from metrics.stores.sqlite.top_candidates import Bound

By = Literal["mean", "max"]
_NAMES_AT_ONCE = 500
_NEAR = 1e-9  # a generous bound of the relative error of a float quotient


class _Sum(NamedTuple):
    """One series over the range; ``worth`` is the approximate value that ranks it."""

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
    """See :meth:`metrics.stores.reader.MetricReader.top`."""
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
        slow = numbers if quick is None else numbers.keys() - set(plain)
        not_sealed = {
            number: _not_sealed(connection, number, kind, field, tier, (start, end))
            for number in slow
        }
        groups = Groups(connection, kind, field, tier, (start, end), by)
        found = chain(
            ((sid, (n, total, high)) for sid, n, total, high in quick or ()),
            groups.largest(not_sealed, limit),
        )
        for sid, entry in found:
            worth = worth_of(by, entry)
            if worth is not None:
                sums.append(_Sum(worth, numbers[sid >> SID_BITS], sid, *entry))
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
    """Return the sort key of a top list: the largest first, equal ones by name."""
    worth: Fraction | int = row.high or 0
    if by == "mean":  # whole means, as all the pods that never restarted have, sort much faster
        worth = Fraction(row.total, row.n) if row.total % row.n else row.total // row.n
    return (-worth, row.key.ns, row.key.name, row.cluster)


def _not_sealed(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    field: str,
    tier: str,
    span: tuple[int, int],
) -> dict[int, Sum]:
    """Return the sums of every series of a cluster over the rows that are not sealed."""
    still_open = open_buckets(connection, number, kind, tier, span, (field,))
    rows = _hot(connection, number, kind, field, tier, span, tuple(still_open))
    merged: dict[int, Sum] = {sid: (n, total, high) for sid, n, total, high in rows}
    for by_sid in still_open.values():
        for sid, (_, n, total, _, high) in by_sid.items():
            if n is not None and total is not None:
                entry = (n, total, high)
                merged[sid] = added(merged[sid], entry) if sid in merged else entry
    return merged


def _hot(
    connection: sqlite3.Connection,
    number: int,
    kind: Kind,
    field: str,
    tier: str,
    span: tuple[int, int],
    without: Sequence[int],
) -> list[tuple[int, int, int, int | None]]:
    """Return the sums of the table's rows, except those of some bucket starts."""
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


def _named(connection: sqlite3.Connection, kind: Kind, sums: Sequence[_Sum]) -> list[TopRow]:
    """Return the rows of sums with their names; series deleted meanwhile are left out."""
    names: dict[int, SeriesKey] = {}
    for first in range(0, len(sums), _NAMES_AT_ONCE):
        sids = [one.sid for one in sums[first : first + _NAMES_AT_ONCE]]
        placeholders = ", ".join("?" * len(sids))
        query = f"SELECT sid, ns, name FROM series WHERE sid IN ({placeholders})"  # noqa: S608
        names |= {
            sid: SeriesKey(kind, ns, name) for sid, ns, name in connection.execute(query, sids)
        }
    return [
        TopRow(one.cluster, names[one.sid], one.n, one.total, one.high)
        for one in sums
        if one.sid in names
    ]
