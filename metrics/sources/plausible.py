"""Which values of a source can be believed. Pure.

A number is not true because it is one: counters wrap, percentages fall below zero, a container
that has just started shows a billion cores, and what was not measured is sent as 0. Every answer
of every kind of source passes :func:`plausible` before anybody uses it. A value that cannot be
believed empties its own cell, never the row, and is counted by kind, field and reason.

The rules, which :mod:`metrics.sources.bounds` holds with their sources:

* Nothing is below zero: all fields are amounts, or rates of counters.
* No 0 where 0 cannot be: a capacity; the memory of a node, whose kernel needs some; a node's CPU
  over a whole minute, because measuring it takes some.
* Nothing is above what its node or its filesystem has.
* Where that is not known, nothing is above what any machine has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter, le
from typing import TypeVar

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.minute_columns import FieldColumn, Minutes, MinuteTable
from metrics.series.rows import Cell, CoarseRow, MinuteRow, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.bounds import (
    ABOVE_NODE,
    ABOVE_OWN,
    BOUNDS,
    LIMITS,
    LIMITS_OF_PODS,
    NEVER_IDLE,
    ZERO,
    Bounds,
    Limit,
    bounds_of,
    extremes,
    is_above,
    limit_of,
    reason,
)

# Pods of a StatefulSet keep their name when they move, and only their newest node is known: they
# are compared with the largest node. Others get a new name, or never move.
_MAY_MOVE = re.compile(r"-[0-9]+$")
Row = TypeVar("Row", MinuteRow, CoarseRow)
_EMPTY: tuple[None, None, None, None] = (None, None, None, None)
_PARTS = tuple(map(itemgetter, range(4)))  # of a cell: loops over them run in C


def plausible(answer: SourceAnswer) -> SourceAnswer:
    """Return an answer without the values that cannot be believed, and their number by reason.

    Args:
        answer: a source's answer, checked.

    Returns:
        The same object if all values can be believed. Otherwise rows in the same order; those
        without such a value are the same objects, except in columns.
    """
    check = _Check(answer)
    rows, coarse = check.minutes(answer.rows), check.coarse(answer.coarse)
    if not check.refused:
        return answer
    refused = Counter(answer.refused) + check.refused
    return replace(answer, rows=rows, coarse=coarse, refused=dict(refused))


def plausible_points(
    kind: Kind, field: str, times: Sequence[float], values: Sequence[float], most: float | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Return the points of one series that can be believed; the same objects if all can.

    Args:
        kind: the series' kind.
        field: a field of the kind.
        times: the points' times.
        values: the points' values, one for each time.
        most: the capacity that limits them, e.g. its node's; None if it is not known.
    """
    bounds = bounds_of(kind, field)
    limit = limit_of(kind, field)
    if limit is not None and most is not None:
        bounds = bounds._replace(most=min(bounds.most, int(most * limit.sample / 100)))
    if not values or bounds.least <= min(values) <= max(values) <= bounds.most:
        return times, values
    good = [
        (time, value)
        for time, value in zip(times, values, strict=True)
        if bounds.least <= value <= bounds.most
    ]
    return [time for time, _ in good], [value for _, value in good]


@dataclass(slots=True)
class _Block:
    """Rows of one kind, in columns.

    Attributes:
        kind: the rows' kind.
        columns: the fields in the order of the catalogue; None where no row has the field.
        key_at: returns the series of a row.
        changed: indexes of the columns that were replaced.
    """

    kind: Kind
    columns: list[FieldColumn | None]
    key_at: Callable[[int], SeriesKey]
    changed: set[int]

    def column(self, field: str) -> FieldColumn | None:
        return self.columns[FIELD_NAMES[self.kind].index(field)]

    def empty(self, field: str, rows: Iterable[int]) -> None:
        """Empty the cells of a field in some rows."""
        at = FIELD_NAMES[self.kind].index(field)
        column = self.columns[at]
        if column is None:
            return
        lists = [list(part) for part in column]
        for row in rows:
            for part in lists:
                part[row] = None
        self.columns[at] = FieldColumn(*lists)
        self.changed.add(at)

    def kept(self, row: int, cells: Sequence[Cell | None]) -> tuple[Cell | None, ...]:
        """Return a row's cells as they were, without those that were emptied since."""
        kept = list(cells)
        for at in self.changed:
            column = self.columns[at]
            if column is None or column.n[row] is None:
                kept[at] = None
        return tuple(kept)


class _Check:
    """Checks the rows of one answer, and counts what is refused."""

    def __init__(self, answer: SourceAnswer) -> None:
        self._answer = answer
        self.refused: Counter[str] = Counter()

    def minutes(self, rows: Sequence[MinuteRow]) -> Sequence[MinuteRow]:
        """Return the minutes that can be believed; the same object if all can."""
        if not isinstance(rows, Minutes):
            return self._rows(rows, _column)
        blocks = [_block_of(table) for table in rows.tables]
        self._check(blocks)
        if not any(block.changed for block in blocks):
            return rows
        return Minutes(
            replace(table, columns=block.columns) if block.changed else table
            for table, block in zip(rows.tables, blocks, strict=True)
        )

    def coarse(self, rows: Sequence[CoarseRow]) -> Sequence[CoarseRow]:
        """Return the wider buckets that can be believed; the same object if all can."""
        return self._rows(rows, _coarse_column)

    def _rows(
        self, rows: Sequence[Row], make: Callable[[Sequence[Cell | None]], FieldColumn]
    ) -> Sequence[Row]:
        places: dict[Kind, list[int]] = {}
        for at, row in enumerate(rows):
            places.setdefault(row.key.kind, []).append(at)
        blocks = {kind: _block_of_rows(kind, rows, of, make) for kind, of in places.items()}
        self._check(list(blocks.values()))
        if not any(block.changed for block in blocks.values()):
            return rows
        result = list(rows)
        for kind, block in blocks.items():
            for at, place in enumerate(places[kind] if block.changed else ()):
                cells = block.kept(at, rows[place].cells)
                if cells != rows[place].cells:
                    result[place] = rows[place]._replace(cells=cells)
        return result

    def _check(self, blocks: Sequence[_Block]) -> None:
        for block in blocks:
            for at, column in enumerate(block.columns):
                if column is not None:
                    self._within_bounds(block, at, column)
        largest = _Largest(blocks)
        for block in blocks:
            for limit in LIMITS.get(block.kind, ()):
                self._within_own(block, limit, largest)
        for block in blocks:
            if block.kind == "pod":
                for limit in LIMITS_OF_PODS:
                    self._within_node(block, limit, largest)

    def _within_bounds(self, block: _Block, at: int, column: FieldColumn) -> None:
        """Refuse what no machine can have."""
        bounds, field = BOUNDS[block.kind][at], FIELD_NAMES[block.kind][at]
        bad: dict[int, str] = {}
        if not _is_within(column, bounds):
            for row, (low, high) in enumerate(zip(column.low, column.high, strict=True)):
                if low is not None and high is not None and (why := bounds.why(low, high)):
                    bad[row] = why
        if (block.kind, field) == NEVER_IDLE and 0 in column.total:
            bad |= {row: ZERO for row, total in enumerate(column.total) if total == 0}
        self._refuse(block, field, bad)

    def _within_own(self, block: _Block, limit: Limit, largest: _Largest) -> None:
        """Refuse what is above the capacity of the same row, or of the series in other rows."""
        column, capacity = block.column(limit.field), block.column(limit.of)
        if column is None or (capacity is not None and _is_below(column.high, capacity.low)):
            return
        known = largest.of(block.kind, limit.of)
        if capacity is None and not known:
            return
        why = ABOVE_NODE if block.kind == "node" else ABOVE_OWN
        bad = {}
        for row in range(len(column.n)):
            cell = column.cell(row)
            most = capacity.cell(row) if capacity is not None else None
            if cell is not None and most is None:
                most = known.get(block.key_at(row))
            if cell is not None and most is not None and is_above(cell, most, limit):
                bad[row] = why
        self._refuse(block, limit.field, bad)

    @cached_property
    def _nodes(self) -> Mapping[SeriesKey, str]:
        """Return the nodes of the pods that never move; asked only where a value is large."""
        return {
            info.key: info.node
            for info in self._answer.infos
            if info.key.kind == "pod" and not _MAY_MOVE.search(info.key.name)
        }

    def _within_node(self, block: _Block, limit: Limit, largest: _Largest) -> None:
        """Refuse what is above the capacity of a pod's node."""
        column, known = block.column(limit.field), largest.of("node", limit.of)
        if column is None or not known:
            return
        smallest = min(cell.total for cell in known.values())
        if _largest_of(column.high) <= smallest:
            return
        most = max(known.values(), key=lambda cell: cell.total)
        bad = {}
        for row, high in enumerate(column.high):
            if high is None or high <= smallest:
                continue
            cell, node = column.cell(row), self._nodes.get(block.key_at(row), "")
            if cell and is_above(cell, known.get(SeriesKey("node", "", node), most), limit):
                bad[row] = ABOVE_NODE
        self._refuse(block, limit.field, bad)

    def _refuse(self, block: _Block, field: str, bad: Mapping[int, str]) -> None:
        if bad:
            block.empty(field, bad)
            for why, count in Counter(bad.values()).items():
                self.refused[reason(block.kind, field, why)] += count


class _Largest:
    """The largest capacity of each series in an answer, found when it is needed."""

    def __init__(self, blocks: Collection[_Block]) -> None:
        self._blocks = blocks
        self._known: dict[tuple[Kind, str], dict[SeriesKey, Cell]] = {}

    def of(self, kind: Kind, field: str) -> Mapping[SeriesKey, Cell]:
        """Return the largest value of a field by series, as a single sample."""
        found = self._known.get((kind, field))
        if found is None:
            found = self._known[kind, field] = {}
            for block in self._blocks:
                column = block.column(field) if block.kind == kind else None
                for row, high in enumerate(column.high if column is not None else ()):
                    key = block.key_at(row) if high is not None else None
                    if key and high is not None and (key not in found or found[key].total < high):
                        found[key] = Cell(1, high, high, high)
        return found


def _block_of(table: MinuteTable) -> _Block:
    return _Block(table.kind, list(table.columns), lambda row: table.keys[table.series[row]], set())


def _block_of_rows(
    kind: Kind,
    rows: Sequence[MinuteRow] | Sequence[CoarseRow],
    places: Sequence[int],
    make: Callable[[Sequence[Cell | None]], FieldColumn],
) -> _Block:
    columns = [
        None if cells.count(None) == len(cells) else make(cells)
        for cells in zip(*(rows[at].cells for at in places), strict=True)
    ]
    return _Block(kind, columns, lambda row: rows[places[row]].key, set())


def _column(cells: Sequence[Cell | None]) -> FieldColumn:
    full = [cell or _EMPTY for cell in cells]
    return FieldColumn(*(list(map(part, full)) for part in _PARTS))


def _coarse_column(cells: Sequence[Cell | None]) -> FieldColumn:
    """Return a column in which the mean stands for an extreme that is not known."""
    return _column([cell and Cell(cell.n, cell.total, *extremes(cell)) for cell in cells])


# Most columns are full. Comparing None raises TypeError: that costs less than looking for it first.


def _is_within(column: FieldColumn, bounds: Bounds) -> bool:
    """Return whether all cells of a column are within bounds."""
    low: Sequence[int | None] = column.low
    high: Sequence[int | None] = column.high
    if not low:
        return True
    try:
        return min(low) >= bounds.least and max(high) <= bounds.most  # type: ignore[type-var, operator]
    except TypeError:
        known, most = _present(low), _present(high)
        return not known or (min(known) >= bounds.least and max(most) <= bounds.most)


def _largest_of(values: Sequence[int | None]) -> int:
    """Return the largest value; 0 without one."""
    try:
        return max(values, default=0) or 0  # type: ignore[type-var]
    except TypeError:
        return max(_present(values), default=0)


def _present(values: Sequence[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _is_below(values: Sequence[int | None], most: Sequence[int | None]) -> bool:
    """Return whether every row has a limit and is below it; rows without a value are."""
    try:
        return all(map(le, values, most))  # type: ignore[arg-type]
    except TypeError:
        return all(
            value is None or (limit is not None and value <= limit)
            for value, limit in zip(values, most, strict=True)
        )
