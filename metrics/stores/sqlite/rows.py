"""Rows of the SQLite store: minutes and wider buckets as the values of a table's columns."""

from __future__ import annotations

from collections.abc import Sequence
from operator import le
from typing import Any

from metrics.series.catalog import TIERS
from metrics.series.rollups import LARGEST, MAX_SAMPLES, coarse, minute
from metrics.series.rows import Cell, CoarseRow, MinuteRow
from metrics.stores.sqlite.columns import Row

Values = list[int | None]
Low = int | None
_INT = {int}


def minute_table(rows: Sequence[MinuteRow], sids: Sequence[int]) -> tuple[list[Row], int]:
    """Return 1m rows of one kind as values of the table, and how many cells were refused.

    A row is ts, sid, samples, then mean, low, high of each field, where low and high are None if
    they equal the mean. The rule is :func:`metrics.series.rollups.minute`, applied to whole columns
    because it runs for every value of every pod.
    """
    samples = [0] * len(rows)
    refused = 0
    columns: list[Any] = [[row.ts for row in rows], sids, samples]
    for cells in zip(*[row.cells for row in rows], strict=True):
        present = cells if all(cells) else [cell for cell in cells if cell]
        if not present:
            nothing = [None] * len(cells)
            columns += (nothing, nothing, nothing)
            continue
        found = _minutes(present)
        if found is None:
            stored = [minute(cell) for cell in cells]
            refused += sum(cell is None for cell in stored) - cells.count(None)
            counts = [
                cell.n if cell and known else 0 for cell, known in zip(cells, stored, strict=True)
            ]
            columns += zip(*map(_ends, stored), strict=True)
        elif present is cells:
            counts = found[0]
            columns += found[1:]
        else:
            rest = zip(*found, strict=True)
            blank = (0, None, None, None)
            spread = [next(rest) if cell else blank for cell in cells]
            parts = list(zip(*spread, strict=True))
            counts = list(parts[0])
            columns += parts[1:]
        if counts != samples:
            samples[:] = map(max, samples, counts)
    return list(zip(*columns, strict=True)), refused


def _minutes(cells: Sequence[Cell]) -> tuple[list[int], list[int], list[Low], list[Low]] | None:
    """Return samples, means, lows and highs of cells; None if one of them is to be refused."""
    counts, totals, lows, highs = zip(*cells, strict=True)
    for column in (counts, totals, lows, highs):
        if set(map(type, column)) != _INT:
            return None
    least, most = min(counts), max(counts)
    if least < 1 or most > MAX_SAMPLES or min(lows) < -LARGEST or max(highs) > LARGEST:
        return None
    if most == 1:
        means = list(totals)
    elif least == most:
        twice = 2 * most
        means = [(2 * total + most) // twice for total in totals]
    else:
        means = [(2 * total + n) // (2 * n) for n, total in zip(counts, totals, strict=True)]
    if not (all(map(le, lows, means)) and all(map(le, means, highs))):
        return None
    return (
        list(counts),
        means,
        [None if low == mean else low for low, mean in zip(lows, means, strict=True)],
        [None if high == mean else high for high, mean in zip(highs, means, strict=True)],
    )


def _ends(cell: Cell | None) -> tuple[int | None, int | None, int | None]:
    if cell is None:
        return None, None, None
    _, mean, low, high = cell
    return mean, None if low == mean else low, None if high == mean else high


def coarse_values(row: CoarseRow, sid: int) -> tuple[Values, int]:
    """Return the values of a wider row and how many cells were refused."""
    width = TIERS[row.tier]
    cells = [coarse(cell, width) for cell in row.cells]
    refused = sum(cell is None for cell in cells) - row.cells.count(None)
    minutes = max((cell.n for cell in cells if cell), default=0)
    return [row.ts, sid, minutes, *bucket_values(cells)], refused


def bucket_values(cells: Sequence[Cell | None]) -> Values:
    """Return the value columns of a wider row: n, total, low, high of each field."""
    values: Values = []
    for cell in cells:
        values += (None, None, None, None) if cell is None else cell
    return values


def stored_values(tier: str, cells: Sequence[Cell | None]) -> Values:
    """Return the value columns of a row of any tier."""
    if tier != "1m":
        return bucket_values(cells)
    values: Values = []
    for cell in cells:
        if cell is None:
            values += (None, None, None)
            continue
        _, mean, low, high = cell
        values += (mean, None if low == mean else low, None if high == mean else high)
    return values


def stored_cells(tier: str, values: Sequence[int | None]) -> tuple[Cell | None, ...]:
    """Return the cells of a row's value columns; undoes :func:`stored_values`."""
    cells: list[Cell | None] = []
    if tier == "1m":
        for at in range(0, len(values), 3):
            mean, low, high = values[at : at + 3]
            if mean is None:
                cells.append(None)
            else:
                cells.append(
                    Cell(1, mean, mean if low is None else low, mean if high is None else high)
                )
        return tuple(cells)
    for at in range(0, len(values), 4):
        n, total, low, high = values[at : at + 4]
        cells.append(None if n is None or total is None else Cell(n, total, low, high))
    return tuple(cells)
