"""Lists of integers as compressible bytes, the parts of :mod:`metrics.stores.sqlite.chunks`.

Integers become *planes*: the lowest bytes of all numbers, then the second lowest and so on, as
many as the largest needs. Pure.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import sub


def span_of(series: int | None, buckets: int) -> slice:
    """Return the slice of a series in a matrix of series x buckets; all of it for None."""
    return slice(None) if series is None else slice(series * buckets, (series + 1) * buckets)


def _divided(values: Sequence[int]) -> tuple[int, Sequence[int]]:
    """Return the greatest common divisor, at least 1, and the values without it."""
    divisor = math.gcd(*values) or 1
    return divisor, values if divisor == 1 else [value // divisor for value in values]


def plain(values: Sequence[int]) -> bytes:
    """Pack numbers that are unrelated to their neighbours."""
    least = min(values)
    shifted = values if least == 0 else [value - least for value in values]
    divisor, small = _divided(shifted)
    return varint(divisor) + varint(_folded(least)) + _planes(small)


def walk(values: Sequence[int], buckets: int) -> bytes:
    """Pack numbers that change slowly: each series' first one, then the steps between buckets."""
    divisor, small = _divided(values)
    steps = map(sub, small[1:], small)
    folded = [0, *[step + step if step >= 0 else -1 - step - step for step in steps]]
    for at in range(0, len(folded), buckets):
        folded[at] = 0
    return varint(divisor) + plain(small[::buckets]) + _planes(folded)


def _planes(values: Sequence[int]) -> bytes:
    """Return how many planes there are, and the planes; values are >= 0 and below 2^64."""
    count = (max(values).bit_length() + 7) // 8
    raw = _little_endian(array("Q", values)).tobytes() if count else b""
    return bytes([count]) + b"".join(raw[at::8] for at in range(count))


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


class Reader:
    """Reads bytes from the front."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> memoryview:
        """Return the next bytes."""
        self._at += length
        return self._data[self._at - length : self._at]

    def varint(self) -> int:
        """Return the next number that :func:`varint` packed."""
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7


class _Planes:
    """Numbers in planes, read as a whole or in part."""

    def __init__(self, reader: Reader, size: int) -> None:
        self.size = size
        self._planes = [reader.take(size) for _ in range(reader.take(1)[0])]

    def some(self, span: slice) -> list[int]:
        start, stop, _ = span.indices(self.size)
        if not self._planes:
            return [0] * (stop - start)
        if len(self._planes) == 1:
            return list(self._planes[0][span])
        raw = bytearray(8 * (stop - start))
        for at, plane in enumerate(self._planes):
            raw[at::8] = plane[span]
        return _little_endian(array("Q", bytes(raw))).tolist()


class Plain:
    """Numbers packed by :func:`plain`."""

    def __init__(self, reader: Reader, size: int) -> None:
        self._divisor = reader.varint()
        self._least = _unfolded(reader.varint())
        self._planes = _Planes(reader, size)

    def nonzero(self) -> list[int]:
        """Return for each number a value that is 0 if and only if it is 0; for numbers >= 0."""
        return [1] * self._planes.size if self._least else self._planes.some(slice(None))

    def all(self) -> list[int]:
        """Return all numbers."""
        return self.some(slice(None))

    def some(self, span: slice) -> list[int]:
        """Return the numbers of a slice."""
        values = self._planes.some(span)
        divisor, least = self._divisor, self._least
        if divisor == 1 and least == 0:
            return values
        return [value * divisor + least for value in values]


class Walk:
    """Numbers packed by :func:`walk`."""

    def __init__(self, reader: Reader, series: int, buckets: int) -> None:
        self._buckets = buckets
        self._divisor = reader.varint()
        self._firsts = Plain(reader, series)
        self._steps = _Planes(reader, series * buckets)

    def one(self, series: int) -> list[int]:
        """Return the values of one series."""
        folded = self._steps.some(span_of(series, self._buckets))
        return self._values(self._firsts.some(slice(series, series + 1))[0], folded)

    def all(self) -> list[int]:
        """Return the values of all series, one after another."""
        folded, buckets = self._steps.some(slice(None)), self._buckets
        found: list[int] = []
        for at, first in enumerate(self._firsts.all()):
            found += self._values(first, folded[at * buckets : (at + 1) * buckets])
        return found

    def each(self, stop: int) -> Iterator[list[int]]:
        """Yield the values of each series in the buckets before ``stop``."""
        folded = self._steps.some(slice(None))
        for at, first in enumerate(self._firsts.all()):
            yield self._values(first, folded[at * self._buckets : at * self._buckets + stop])

    def _values(self, first: int, folded: list[int]) -> list[int]:
        divisor = self._divisor
        folded[0] = 0
        steps: Iterable[int] = [step >> 1 ^ -(step & 1) for step in folded]
        if divisor != 1:
            steps = [step * divisor for step in steps]
        values = accumulate(steps, initial=first * divisor)
        next(values)  # the first step is not a real one
        return list(values)


def varint(value: int) -> bytes:
    """Return a number >= 0 in as many bytes as it needs, seven bits each."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _folded(value: int) -> int:
    """Return a number >= 0 for any number: small ones stay small."""
    return value << 1 if value >= 0 else ~(value << 1)


def _unfolded(value: int) -> int:
    return value >> 1 ^ -(value & 1)
