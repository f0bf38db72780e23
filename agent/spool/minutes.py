"""A minute of one kind: samples folded to cells (n, sum, min, max), and their packed form.

Pure: no clock, no disk. The packed form is what one row of the spool holds. Columns of 64-bit
integers, field by field, are split into byte planes (all lowest bytes first, all highest last),
which puts the many zero bytes side by side, and deflated. Sums and maxima are kept as distances
from the minimum: a value that did not move within its minute costs almost nothing.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator

from agent.catalog import FIELDS, Kind

_HEADER = struct.Struct("<BBI")  # format version, number of fields, number of rows
_FORMAT = 1
MAX_ROWS = 200_000


class MinuteFormatError(ValueError):
    """The bytes are no packed minute; the message says why."""


class Minute:
    """The cells of all series of one kind over one minute.

    ``cells[sid]`` is a flat list ``n, sum, min, max`` for each field; ``n`` is 0 if a field was not
    measured; the other three are then undefined.
    """

    __slots__ = ("cells", "kind")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.cells: dict[int, list[int]] = {}

    def fold(self, sid: int, values: Iterable[int | None]) -> None:
        """Add one sample of a series. A sample without any value still makes the row."""
        row = self.cells.get(sid)
        if row is None:
            row = self.cells[sid] = [0] * (4 * len(FIELDS[self.kind]))
        at = 0
        for value in values:
            if value is not None:
                if row[at]:
                    row[at] += 1
                    row[at + 1] += value
                    if value < row[at + 2]:
                        row[at + 2] = value
                    elif value > row[at + 3]:
                        row[at + 3] = value
                else:
                    row[at : at + 4] = (1, value, value, value)
            at += 4

    def pack(self, *, level: int = 6) -> bytes:
        """Return the minute as bytes; ``level`` is zlib's."""
        rows = list(self.cells.values())
        width = len(FIELDS[self.kind])
        numbers = array("q", self.cells)
        for at in range(0, 4 * width, 4):
            numbers.extend(row[at] for row in rows)
            numbers.extend(row[at + 1] - row[at] * row[at + 2] for row in rows)
            numbers.extend(row[at + 2] for row in rows)
            numbers.extend(row[at + 3] - row[at + 2] for row in rows)
        return _HEADER.pack(_FORMAT, width, len(rows)) + zlib.compress(_to_planes(numbers), level)

    @classmethod
    def unpack(cls, kind: Kind, data: bytes) -> Minute:
        """Return the minute that :meth:`pack` made.

        Raises:
            MinuteFormatError: if the bytes are damaged or of another format.
        """
        minute = cls(kind)
        sids, columns = unpack_columns(kind, data)
        rows = zip(*columns, strict=True)
        minute.cells = {sid: list(row) for sid, row in zip(sids, rows, strict=True)}
        return minute


def unpack_columns(kind: Kind, data: bytes) -> tuple[list[int], list[list[int]]]:
    """Return series ids and the columns n, sum, min, max of each field in turn.

    A minute written by an older agent may have fewer fields than the catalogue has now; the
    columns that it lacks are "not measured".

    Raises:
        MinuteFormatError: if the bytes are damaged or of another format.
    """
    numbers, width, count = _read(data)
    wanted = len(FIELDS[kind])
    if width > wanted:
        msg = f"{width} fields where {kind} has {wanted}"
        raise MinuteFormatError(msg)
    parts = _slices(numbers, count)
    sids = next(parts)
    columns: list[list[int]] = []
    for _ in range(width):
        n, extra, low, spread = next(parts), next(parts), next(parts), next(parts)
        columns.append(n)
        columns.append([e + k * m for e, k, m in zip(extra, n, low, strict=True)])
        columns.append(low)
        columns.append([m + d for m, d in zip(low, spread, strict=True)])
    columns.extend([0] * count for _ in range(4 * (wanted - width)))
    return sids, columns


def _read(data: bytes) -> tuple[array[int], int, int]:
    try:
        version, width, count = _HEADER.unpack_from(data)
    except struct.error as exc:
        raise MinuteFormatError("no header") from exc
    if version != _FORMAT or count > MAX_ROWS:
        msg = f"format {version} with {count} rows"
        raise MinuteFormatError(msg)
    size = 8 * count * (1 + 4 * width)
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(data[_HEADER.size :], size + 1)
    except zlib.error as exc:
        raise MinuteFormatError(str(exc)) from exc
    if len(raw) != size or (size and not inflate.eof):
        msg = f"{len(raw)} bytes where {size} were due"
        raise MinuteFormatError(msg)
    return _from_planes(raw), width, count


def _slices(numbers: array[int], count: int) -> Iterator[list[int]]:
    at = 0
    while True:
        yield numbers[at : at + count].tolist()
        at += count


def _to_planes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    raw = numbers.tobytes()
    return b"".join(raw[plane::8] for plane in range(8))


def _from_planes(planes: bytes) -> array[int]:
    count = len(planes) // 8
    raw = bytearray(len(planes))
    for plane in range(8):
        raw[plane::8] = planes[plane * count : (plane + 1) * count]
    numbers = array("q")
    numbers.frombytes(bytes(raw))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
