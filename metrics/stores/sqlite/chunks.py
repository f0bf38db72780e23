"""Column chunks, into which settled rows of the SQLite store are packed. Pure.

A chunk contains the rows of some series (a block) over one span of one tier as a matrix of series x
buckets for each field. ``docs/decisions/0009-sealed-chunks.md`` has the layout and the figures.

Means are stored as differences from the previous bucket, lowest and highest values as differences
from the mean, all divided by their greatest common divisor first: memory comes in pages, so it is
usually 4096. zlib does the rest. Fields that were not measured take no space. A field is identified
by a number that the caller maps to its name, so that chunks outlive changes of the catalogue; a
checksum detects damaged chunks.

This module reads them; :mod:`metrics.stores.sqlite.chunk_encoder` writes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import add

from metrics.stores.sqlite.chunk_codec import Plain, Reader, Walk, span_of

VERSION = 1
MASKED, LOWS_MASKED, HIGHS_MASKED, COUNTED = 1, 2, 4, 8
"""Flags of a field: which of its masks and counts follow."""


class DamagedChunkError(Exception):
    """The bytes are not what was written."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of some series of a chunk, bucket by bucket; None = not measured (or not known)."""

    n: list[int | None]
    total: list[int | None]
    low: list[int | None]
    high: list[int | None]


class Chunk:
    """An opened chunk: only its index is inflated until values are read.

    Attributes:
        sids: numbers of its series, ascending.
        start: start of the span in Unix seconds.
        step: width of a bucket in seconds.
        buckets: number of buckets in the span.
    """

    def __init__(self, data: bytes) -> None:
        """Open a chunk.

        Raises:
            DamagedChunkError: the checksum is wrong, or the version unknown.
        """
        if len(data) < 6 or data[0] != VERSION:
            msg = "it is not a chunk of a known version"
            raise DamagedChunkError(msg)
        content = memoryview(data)[5:]
        if zlib.crc32(content) != int.from_bytes(data[1:5], "little"):
            msg = "its checksum is wrong"
            raise DamagedChunkError(msg)
        reader = Reader(content)
        count, self.buckets, self.step, self.start, units = (reader.varint() for _ in range(5))
        described = []
        for _ in range(units):
            numbers = [reader.varint() for _ in range(reader.varint())]
            described.append((numbers, reader.varint()))
        self._units: list[memoryview] = []
        self._unit_of: dict[int, tuple[int, int]] = {}
        for at, (numbers, length) in enumerate(described):
            self._units.append(reader.take(length))
            self._unit_of.update((number, (at, index)) for index, number in enumerate(numbers))
        index = Reader(memoryview(zlib.decompress(self._units[0])))
        self.sids = list(accumulate(Plain(index, count).all()))
        self._counts = Plain(index, count * self.buckets)

    @property
    def fields(self) -> list[int]:
        """Return the numbers of the fields that have any value."""
        return list(self._unit_of)

    def counts(self) -> list[int | None]:
        """Return each row's n, series by series; None where there is no row."""
        return [n - 1 if n else None for n in self._counts.all()]

    def rows(self, start: int, end: int) -> int:
        """Return how many rows are in ``[start, end)``."""
        present = self._counts.nonzero()
        times = range(self.start, self.start + self.step * self.buckets, self.step)
        wanted = [at for at, ts in enumerate(times) if start <= ts < end]
        return sum(len(self.sids) - present[at :: self.buckets].count(0) for at in wanted)

    def read(self, fields: Iterable[int], series: int | None = None) -> dict[int, Field]:
        """Return fields by their numbers; those that were not measured are left out.

        Args:
            fields: the fields' numbers.
            series: index of a series in :attr:`sids`; None for all series, one after another.

        Raises:
            DamagedChunkError: the content does not match the checksum.
        """
        by_unit: dict[int, dict[int, int]] = {}
        for number in fields:
            if number in self._unit_of:
                unit, index = self._unit_of[number]
                by_unit.setdefault(unit, {})[index] = number
        found: dict[int, Field] = {}
        for unit, wanted in by_unit.items():
            found.update(self._read_unit(unit, wanted, series))
        return found

    def sums(
        self, number: int, within: range, least: float
    ) -> Iterator[tuple[int, tuple[int, int, int | None]]]:
        """Yield sid and (n, total, high) of each series that has a field within some buckets.

        Args:
            number: the field's number.
            within: indexes of the buckets.
            least: series with a mean below it may be left out.

        Raises:
            DamagedChunkError: the content does not match the checksum.
        """
        if number not in self._unit_of or not within:
            return
        unit, index = self._unit_of[number]
        reader = Reader(memoryview(zlib.decompress(self._units[unit])))
        for _ in range(index + 1):
            stored = _Stored(reader, len(self.sids), self.buckets, wide=self.step > 60)
        entries = stored.sums(self._counts, within, least)
        for sid, entry in zip(self.sids, entries, strict=True):
            if entry is not None:
                yield sid, entry

    def _read_unit(
        self, unit: int, wanted: Mapping[int, int], series: int | None
    ) -> Iterable[tuple[int, Field]]:
        reader = Reader(memoryview(zlib.decompress(self._units[unit])))
        counts = self._counts.some(span_of(series, self.buckets))
        for index in range(max(wanted) + 1):
            stored = _Stored(reader, len(self.sids), self.buckets, wide=self.step > 60)
            if index in wanted:
                yield wanted[index], stored.field(counts, series)


def table_rows(
    chunk: Chunk, fields: Sequence[int], *, since: int = 0
) -> list[tuple[int | None, ...]]:
    """Return the rows that were packed, by sid and time: the encoder's input.

    Args:
        chunk: the opened chunk.
        fields: the fields' numbers in the order of the table's columns; fields that the chunk lacks
            are None in the rows.
        since: Unix time in seconds; rows before it are left out.
    """
    wide = chunk.step > 60
    counts = chunk.counts()
    found = chunk.read(fields)
    nothing: list[int | None] = [None] * len(counts)
    times = range(chunk.start, chunk.start + chunk.step * chunk.buckets, chunk.step)
    columns: list[Iterable[int | None]] = [
        list(times) * len(chunk.sids),
        chain.from_iterable([sid] * chunk.buckets for sid in chunk.sids),
        counts,
    ]
    for number in fields:
        field = found.get(number)
        if field is None:
            columns += [nothing] * (4 if wide else 3)
        elif wide:
            columns += [field.n, field.total, field.low, field.high]
        else:
            columns.append(field.total)
            for ends in (field.low, field.high):
                pairs = zip(ends, field.total, strict=True)
                columns.append([None if end == mean else end for end, mean in pairs])
    rows = zip(*columns, strict=True)
    return [row for row in rows if row[2] is not None and (row[0] or 0) >= since]


class _Stored:
    """One field in an inflated unit; opening it moves the reader past its bytes."""

    def __init__(self, reader: Reader, series: int, buckets: int, *, wide: bool) -> None:
        size = series * buckets
        flags = reader.take(1)[0]
        self._buckets = buckets
        self._wide = wide
        self._mask = reader.take(size) if flags & MASKED else None
        self._walk = Walk(reader, series, buckets)
        self._rests = Plain(reader, size) if wide else None
        self._missing = Plain(reader, size) if flags & COUNTED else None
        self._lows_mask = reader.take(size) if flags & LOWS_MASKED else None
        self._below = Plain(reader, size)
        self._highs_mask = reader.take(size) if flags & HIGHS_MASKED else None
        self._above = Plain(reader, size)

    def field(self, counts: Sequence[int], series: int | None) -> Field:
        """Return the values of one series, or of all; ``counts`` are the n + 1 of their rows."""
        means = self._walk.all() if series is None else self._walk.one(series)
        return self._field(counts, means, span_of(series, self._buckets))

    def sums(
        self, counts: Plain, within: range, least: float
    ) -> Iterator[tuple[int, int, int | None] | None]:
        """Yield n, total and highest of each series over some buckets.

        None where it has none, and possibly where its mean is below ``least``.
        """
        simple = self._mask is None and self._rests is None
        present = counts.nonzero()
        size = len(within)
        for at, values in enumerate(self._walk.each(within.stop)):
            means = values[within.start :]
            first = at * self._buckets
            span = slice(first + within.start, first + within.stop)
            if not simple or not all(present[span]):
                yield _sum(self._field(counts.some(span), means, span))
                continue
            total = sum(means)  # nearly every minute
            if total < least * size:
                yield None
            else:
                yield size, total, max(map(add, means, self._above.some(span)))

    def _field(self, counts: Sequence[int], means: list[int], span: slice) -> Field:
        present: Sequence[int] = counts if self._mask is None else self._mask[span]
        low: list[int | None] = [m - d for m, d in zip(means, self._below.some(span), strict=True)]
        high: list[int | None] = [m + d for m, d in zip(means, self._above.some(span), strict=True)]
        n: list[int | None] = [1] * len(means)
        total: list[int | None] = list(means)
        if self._rests is not None:
            minutes = [count - 1 for count in counts]
            if self._missing is not None:
                pairs = zip(minutes, self._missing.some(span), strict=True)
                minutes = [a - b for a, b in pairs]
            n = list(minutes)
            triples = zip(means, minutes, self._rests.some(span), strict=True)
            total = [mean * m + rest for mean, m, rest in triples]
        low = _masked(low, self._lows_mask, span)
        high = _masked(high, self._highs_mask, span)
        if not all(present):
            n, total, low, high = (
                [v if known else None for v, known in zip(values, present, strict=True)]
                for values in (n, total, low, high)
            )
        return Field(n, total, low, high)


def _sum(read: Field) -> tuple[int, int, int | None] | None:
    minutes = [n for n in read.n if n is not None]
    if not minutes:
        return None
    total = sum(value for value in read.total if value is not None)
    highs = [value for value in read.high if value is not None]
    return sum(minutes), total, max(highs, default=None)


def _masked(values: list[int | None], mask: memoryview | None, span: slice) -> list[int | None]:
    if mask is None:
        return values
    return [v if known else None for v, known in zip(values, mask[span], strict=True)]
