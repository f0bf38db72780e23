"""Writing of column chunks: settled rows of the SQLite store become bytes. Pure.

:mod:`metrics.stores.sqlite.chunks` reads them, and describes their format.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from operator import floordiv, itemgetter, mod, sub
from typing import TypeVar, cast

from metrics.stores.sqlite.chunk_codec import plain, varint, walk
from metrics.stores.sqlite.chunks import COUNTED, HIGHS_MASKED, LOWS_MASKED, MASKED, VERSION

BLOCK_SERIES = 64
"""Series in one chunk: all are inflated to read one of them."""

_UNIT_BYTES = 24_000  # of planes that are compressed together, at least: small fields share
_LEVEL = 6

T = TypeVar("T")

Row = Sequence[int | None]
"""ts, sid, n, then the value columns of the tier's table, in the order of the given fields."""

Columns = Sequence[Sequence[int | None]]
"""The same as columns, ordered by sid and time: what :func:`in_columns` returns."""


def in_columns(rows: Iterable[Row]) -> Columns:
    """Return rows, which may be in any order, as columns in the order of a chunk."""
    # Two sorts, because rows come by time: each input is nearly sorted.
    by_time = sorted(rows, key=itemgetter(0))
    return list(zip(*sorted(by_time, key=itemgetter(1)), strict=True))


def encode(
    columns: Columns, fields: Sequence[int], *, start: int, step: int, buckets: int
) -> bytes:
    """Pack the rows of one span.

    Args:
        columns: the result of :func:`in_columns`; no (ts, sid) twice, at least one row.
        fields: the number of each field, in the order of the rows' columns.
        start: start of the span in Unix seconds.
        step: width of a bucket in seconds; 60 for rows with three columns per field (mean, low,
            high, None where they equal the mean), else four (n, total, low, high).
        buckets: number of buckets in the span.
    """
    times, owners, minutes = (cast("Sequence[int]", column) for column in columns[:3])
    sids = sorted(set(owners))
    matrix = _Matrix(times, owners, sids, start, step, buckets)
    counts = matrix.fill([n + 1 for n in minutes], 0)
    index = plain([b - a for a, b in zip([0, *sids], sids, strict=False)]) + plain(counts)
    packed: list[tuple[int, bytes]] = []
    wide = step > 60
    width = 4 if wide else 3
    for at, number in enumerate(fields):
        mine = columns[3 + width * at : 3 + width * (at + 1)]
        if _any(mine[1 if wide else 0]):
            body = _wide(matrix, minutes, mine) if wide else _minute(matrix, mine)
            packed.append((number, body))
    units: list[tuple[tuple[int, ...], bytes]] = [((), zlib.compress(index, _LEVEL))]
    units += [(numbers, zlib.compress(body, _LEVEL)) for numbers, body in _units(packed)]
    head = bytearray()
    for number in (len(sids), buckets, step, start, len(units)):
        head += varint(number)
    for numbers, body in units:
        for number in (len(numbers), *numbers, len(body)):
            head += varint(number)
    content = bytes(head) + b"".join(body for _, body in units)
    return bytes([VERSION]) + zlib.crc32(content).to_bytes(4, "little") + content


class _Matrix:
    """The positions of a chunk's ordered rows in a matrix of series x buckets."""

    def __init__(
        self,
        times: Sequence[int],
        owners: Sequence[int],
        sids: Sequence[int],
        start: int,
        step: int,
        buckets: int,
    ) -> None:
        self.buckets = buckets
        self.size = len(sids) * buckets
        self.full = len(times) == self.size
        firsts = {sid: at * buckets for at, sid in enumerate(sids)}
        self._at = (
            []
            if self.full
            else [firsts[sid] + (ts - start) // step for ts, sid in zip(times, owners, strict=True)]
        )

    def fill(self, values: Sequence[int], nothing: int) -> Sequence[int]:
        """Return one value per bucket; ``nothing`` where there is no row."""
        if self.full:
            return values
        return self._spread(values, nothing)

    def carry(self, values: Sequence[int | None]) -> tuple[bytes, Sequence[int]]:
        """Return a mask and one value per bucket; the previous one where there is none.

        The mask is b"" if every row has a value.
        """
        masked = None in values
        if self.full and not masked:
            return b"", cast("Sequence[int]", values)
        cells = values if self.full else self._spread(values, None)
        value = next(cell for cell in cells if cell is not None)
        carried = [value := value if cell is None else cell for cell in cells]
        return bytes([cell is not None for cell in cells]) if masked else b"", carried

    def _spread(self, values: Sequence[T], nothing: T) -> list[T]:
        cells = [nothing] * self.size
        for at, value in zip(self._at, values, strict=True):
            cells[at] = value
        return cells


def _any(values: Sequence[int | None]) -> bool:
    """Return whether a column has any value."""
    return values[0] is not None or values.count(None) < len(values)


def _minute(matrix: _Matrix, columns: Columns) -> bytes:
    """Pack one field of minutes."""
    means, lows, highs = columns
    mask, cells = matrix.carry(means)
    flags = MASKED if mask else 0
    return b"".join(
        (
            bytes([flags]),
            mask,
            walk(cells, matrix.buckets),
            _difference(matrix, means, lows),
            _difference(matrix, highs, means),
        )
    )


def _difference(matrix: _Matrix, ones: Sequence[int | None], others: Sequence[int | None]) -> bytes:
    """Pack how much more one column is than another; 0 where one of them is None."""
    if not _any(ones) or not _any(others):
        return plain([0])  # the same for any number of zeros
    return plain(matrix.fill(_both(sub, ones, others, 0), 0))


def _both(
    function: Callable[[int, int], int],
    ones: Sequence[int | None],
    others: Sequence[int | None],
    nothing: T,
) -> list[int | T]:
    """Return a function of two columns; ``nothing`` where one of them is None."""
    if None not in ones and None not in others:
        return list(map(function, cast("Sequence[int]", ones), cast("Sequence[int]", others)))
    return [
        nothing if one is None or other is None else function(one, other)
        for one, other in zip(ones, others, strict=True)
    ]


def _wide(matrix: _Matrix, minutes: Sequence[int], columns: Columns) -> bytes:
    """Pack one field of wider buckets: the mean, rounded down, and the remainder of the sum."""
    counts, totals, lows, highs = columns
    means = _both(floordiv, totals, counts, None)
    mask, cells = matrix.carry(means)
    flags = MASKED if mask else 0
    rests = _both(mod, totals, counts, 0)
    parts = [mask, walk(cells, matrix.buckets), plain(matrix.fill(rests, 0))]
    missing = [] if counts == minutes else _both(sub, minutes, counts, 0)
    if any(missing):
        flags |= COUNTED
        parts.append(plain(matrix.fill(missing, 0)))
    for ends, flag in ((lows, LOWS_MASKED), (highs, HIGHS_MASKED)):
        if None in ends:
            known = [e is not None or mean is None for e, mean in zip(ends, means, strict=True)]
            if not all(known):
                flags |= flag
                parts.append(bytes(matrix.fill(known, 0)))
        away = (ends, means) if ends is highs else (means, ends)
        parts.append(_difference(matrix, *away))
    return bytes([flags]) + b"".join(parts)


def _units(packed: Iterable[tuple[int, bytes]]) -> list[tuple[tuple[int, ...], bytes]]:
    """Group small fields, so that each compressed piece is worth its overhead."""
    units: list[tuple[tuple[int, ...], bytes]] = []
    numbers: list[int] = []
    bodies: list[bytes] = []
    for number, body in packed:
        numbers.append(number)
        bodies.append(body)
        if sum(map(len, bodies)) >= _UNIT_BYTES:
            units.append((tuple(numbers), b"".join(bodies)))
            numbers, bodies = [], []
    if numbers:
        units.append((tuple(numbers), b"".join(bodies)))
    return units
