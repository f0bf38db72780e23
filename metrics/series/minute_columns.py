"""Minutes in columns, as our agent sends them and as a table takes them.

A fleet's minutes are 200,000 numbers and more. As a tuple per field and one per row they cost more
time to create and to free than to check and to store. :class:`Minutes` is a sequence of rows, which
are created on first access; a store that can take columns uses those instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, overload

from metrics.series.catalog import Kind
from metrics.series.rows import Cell, MinuteRow, SeriesKey


class FieldColumn(NamedTuple):
    """One field of a table, one entry per row: samples, sum, lowest, highest.

    All four are None where a row has no value of the field.
    """

    n: Sequence[int | None]
    total: Sequence[int | None]
    low: Sequence[int | None]
    high: Sequence[int | None]

    def cell(self, at: int) -> Cell | None:
        """Return one row's cell."""
        n, total = self.n[at], self.total[at]
        if n is None or total is None:
            return None
        return Cell(n, total, self.low[at], self.high[at])


@dataclass(frozen=True, slots=True)
class MinuteTable:
    """Minutes of one kind.

    Attributes:
        kind: the kind of all series.
        keys: the series, each once.
        times: each row's time, in Unix seconds.
        series: each row's series, as an index of ``keys``; no (time, series) twice.
        columns: the fields in the order of the catalogue; None where no row has the field.
    """

    kind: Kind
    keys: Sequence[SeriesKey]
    times: Sequence[int]
    series: Sequence[int]
    columns: Sequence[FieldColumn | None]

    def row(self, at: int) -> MinuteRow:
        """Return one row."""
        cells = tuple(column.cell(at) if column else None for column in self.columns)
        return MinuteRow(self.times[at], self.keys[self.series[at]], cells)


class Minutes(Sequence[MinuteRow]):
    """Rows of several tables, ascending by time."""

    def __init__(self, tables: Iterable[MinuteTable]) -> None:
        self.tables = tuple(tables)
        self._rows: list[MinuteRow] | None = None

    @staticmethod
    def joined(parts: Iterable[Minutes]) -> Minutes:
        """Return the rows of all parts; no (time, series) may be in two of them."""
        return Minutes(table for part in parts for table in part.tables)

    def newest(self, kind: Kind) -> int | None:
        """Return the newest time of a kind's rows; None without one."""
        times = (max(t.times) for t in self.tables if t.kind == kind and t.times)
        return max(times, default=None)

    def at(self, kind: Kind, ts: int) -> list[MinuteRow]:
        """Return a kind's rows of one minute, without creating the others."""
        return [
            table.row(at)
            for table in self.tables
            if table.kind == kind
            for at, time in enumerate(table.times)
            if time == ts
        ]

    def has_value_at(self, kind: Kind, ts: int) -> bool:
        """Return whether any row of a kind has a value in one minute, without creating rows."""
        for table in self.tables:
            if table.kind != kind or ts not in table.times:
                continue
            places = [at for at, time in enumerate(table.times) if time == ts]
            for column in table.columns:
                if column is not None and any(column.cell(at) is not None for at in places):
                    return True
        return False

    def count_of(self, kind: Kind, ts: int) -> int:
        """Return how many rows of a kind one minute has."""
        return sum(table.times.count(ts) for table in self.tables if table.kind == kind)

    def __len__(self) -> int:
        return sum(len(table.times) for table in self.tables)

    def __iter__(self) -> Iterator[MinuteRow]:
        return iter(self._all_rows())

    @overload
    def __getitem__(self, at: int) -> MinuteRow: ...

    @overload
    def __getitem__(self, at: slice) -> list[MinuteRow]: ...

    def __getitem__(self, at: int | slice) -> MinuteRow | list[MinuteRow]:
        return self._all_rows()[at]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _all_rows(self) -> list[MinuteRow]:
        if self._rows is None:
            rows = [table.row(at) for table in self.tables for at in range(len(table.times))]
            self._rows = sorted(rows, key=attrgetter("ts"))
        return self._rows


def newest_of(rows: Sequence[MinuteRow], kind: Kind) -> int | None:
    """Return the newest time of a kind's rows, in columns or not; None without one."""
    if isinstance(rows, Minutes):
        return rows.newest(kind)
    return max((row.ts for row in rows if row.key.kind == kind), default=None)


def rows_at(rows: Sequence[MinuteRow], kind: Kind, ts: int) -> list[MinuteRow]:
    """Return a kind's rows of one minute, in columns or not."""
    if isinstance(rows, Minutes):
        return rows.at(kind, ts)
    return [row for row in rows if row.ts == ts and row.key.kind == kind]


def has_value_at(rows: Sequence[MinuteRow], kind: Kind, ts: int) -> bool:
    """Return whether any row of a kind has a value in one minute, in columns or not."""
    if isinstance(rows, Minutes):
        return rows.has_value_at(kind, ts)
    found = (row for row in rows if row.ts == ts and row.key.kind == kind)
    return any(cell is not None for row in found for cell in row.cells)


def count_at(rows: Sequence[MinuteRow], kind: Kind, ts: int) -> int:
    """Return how many rows of a kind one minute has, in columns or not."""
    if isinstance(rows, Minutes):
        return rows.count_of(kind, ts)
    return sum(1 for row in rows if row.ts == ts and row.key.kind == kind)
