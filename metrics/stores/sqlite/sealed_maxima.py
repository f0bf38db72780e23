"""The largest sealed series, found without opening every chunk.

Each chunk's row has the largest value of each of its fields. A series' mean (or highest value) over
a range is not above the largest value of its chunks and rows, so chunks are opened in that order,
until enough series are known that are larger.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappush, heappushpop
from typing import NamedTuple

from metrics.series.catalog import Kind
from metrics.stores.sqlite.chunk_encoder import Columns
from metrics.stores.sqlite.sealed import ChunkHeader, chunk_headers, field_numbers, opened

Sum = tuple[int, int, int | None]
"""n, total, highest of a series."""

_INFINITE = float("inf")
_NEAR = 1e-9  # how far a float quotient is off the exact one, at most, and much more


def pack_highs(columns: Columns, fields: Iterable[int], *, wide: bool) -> bytes:
    """Return the largest mean and value of each field that has any, for :func:`unpack_highs`.

    Args:
        columns: a chunk's columns, as for :func:`metrics.stores.sqlite.chunk_encoder.encode`.
        fields: the number of each field, in the order of the rows' columns.
        wide: whether the columns are of a wider tier than 1m.
    """
    width = 4 if wide else 3
    found = array("q")
    for at, number in enumerate(fields):
        mine = columns[3 + width * at : 3 + width * (at + 1)]
        mean = _largest_mean(mine[0], mine[1]) if wide else _largest(mine[0])
        if mean is not None:
            high = _largest(mine[-1])
            found.extend((number, mean, mean if high is None else max(mean, high)))
    return _little_endian(found).tobytes()


def _largest(values: Sequence[int | None]) -> int | None:
    return max([value for value in values if value is not None], default=None)


def _largest_mean(counts: Sequence[int | None], totals: Sequence[int | None]) -> int | None:
    """Return the largest mean of buckets, rounded up."""
    if len(set(counts)) == 1 and counts[0]:
        total = _largest(totals)
        return None if total is None else -(-total // counts[0])
    pairs = zip(counts, totals, strict=True)
    return max([-(-total // (n or 1)) for n, total in pairs if total is not None], default=None)


def unpack_highs(data: bytes) -> dict[int, tuple[int, int]]:
    """Return the upper bounds of a chunk's means and of its highest values, by field number."""
    found = _little_endian(array("q", data))
    return dict(zip(found[::3], zip(found[1::3], found[2::3], strict=True), strict=True))


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


class _Group(NamedTuple):
    """Chunks of a cluster with a range of series, and the rows of these series."""

    bound: float
    first: int
    last: int
    chunks: list[ChunkHeader]
    rows: dict[int, Sum]


class Groups:
    """The sealed chunks of some clusters, for one query of the largest series."""

    def __init__(
        self, connection: sqlite3.Connection, kind: Kind, field: str, tier: str,
        span: tuple[int, int], by: str,
    ) -> None:  # fmt: skip
        """Store the query's parameters; ``by`` is the ranking, "mean" or "max"."""
        self._connection = connection
        self._kind: Kind = kind
        self._tier, self._span, self._by = tier, span, by
        self._number = field_numbers(connection).get(field, 0)

    def largest(
        self, rows: Mapping[int, Mapping[int, Sum]], limit: int
    ) -> Iterator[tuple[int, Sum]]:
        """Yield at least all known series that may be among the largest, and their sums.

        Args:
            rows: sums of the rows that are not sealed, by cluster number and series.
            limit: number of wanted series, >= 1.
        """
        groups: list[_Group] = []
        for number, by_sid in rows.items():
            left = dict(by_sid)
            groups += self._groups(number, left)
            yield from left.items()
        best: list[float] = []
        for group in sorted(groups, key=lambda group: -group.bound):
            least = best[0] - _NEAR * abs(best[0]) if len(best) == limit else -_INFINITE
            if group.bound < least:
                break
            for sid, entry in self._open(group, least).items():
                worth = worth_of(self._by, entry)
                if worth is None:
                    continue
                yield sid, entry
                if len(best) < limit:
                    heappush(best, worth)
                else:
                    heappushpop(best, worth)

    def _groups(self, number: int, rows: dict[int, Sum]) -> Iterator[_Group]:
        """Yield a cluster's groups: no series is in two. Removes their series from ``rows``."""
        found = chunk_headers(self._connection, number, self._kind, self._tier, *self._span)
        found.sort(key=lambda header: header[:3])
        while found:
            first, last = found[0].first, found[0].last
            size = 1
            while size < len(found) and found[size].first <= last:
                last = max(last, found[size].last)
                size += 1
            mine, found = found[:size], found[size:]
            inside = {sid: rows.pop(sid) for sid in list(rows) if first <= sid <= last}
            bounds = [self._bound(header.highs) for header in mine]
            worths = [worth_of(self._by, entry) for entry in inside.values()]
            bounds += [worth for worth in worths if worth is not None]
            if max(bounds) > -_INFINITE:  # else the field was not measured
                yield _Group(max(bounds), first, last, mine, inside)

    def _bound(self, highs: bytes | None) -> float:
        if highs is None:
            return _INFINITE
        found = unpack_highs(highs).get(self._number)
        return -_INFINITE if found is None else found[self._by == "max"]

    def _open(self, group: _Group, least: float) -> dict[int, Sum]:
        """Return the sums of a group's known series; those below ``least`` may be missing."""
        if self._by != "mean" or len(group.chunks) > 1 or group.rows:
            least = -_INFINITE  # a part's mean does not bound the whole
        known = {
            sid
            for (sid,) in self._connection.execute(
                "SELECT sid FROM series WHERE sid BETWEEN ? AND ?", (group.first, group.last)
            )
        }
        found = dict(group.rows)
        start, end = self._span
        for sealed in opened(self._connection, group.chunks):
            chunk = sealed.chunk
            begin = max(start, sealed.since) - chunk.start
            first = max(-(-begin // chunk.step), 0)
            stop = min(-(-(end - chunk.start) // chunk.step), chunk.buckets)
            for sid, entry in chunk.sums(self._number, range(first, stop), least):
                found[sid] = added(found[sid], entry) if sid in found else entry
        return {sid: entry for sid, entry in found.items() if sid in known}


def worth_of(by: str, entry: Sum) -> float | None:
    """Return the approximate value that ranks a series; None if not known."""
    n, total, high = entry
    if by == "mean":
        return total / n
    return None if high is None else float(high)


def added(one: Sum, other: Sum) -> Sum:
    """Return the sums of two parts of a series."""
    highs = [high for high in (one[2], other[2]) if high is not None]
    return one[0] + other[0], one[1] + other[1], max(highs, default=None)
