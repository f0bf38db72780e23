"""Rows of the SQLite store: minutes and wider buckets as the values of a table's columns."""

from __future__ import annotations

from collections.abc import Sequence

from metrics.catalog import TIERS
from metrics.rollups import LARGEST, MAX_SAMPLES, coarse
from metrics.stores.base import Cell, CoarseRow, MinuteRow

Values = list[int | None]


def minute_values(row: MinuteRow, sid: int) -> tuple[Values, int]:
    """Return the values of a 1m row and how many cells were refused.

    The same rule as :func:`metrics.rollups.minute`, written out because it runs for every value
    of every pod: ts, sid, samples, then mean, low, high of each field, where low and high are
    None if they equal the mean.
    """
    values: Values = [row.ts, sid, 0]
    samples = refused = 0
    for cell in row.cells:
        if cell is None:
            values += (None, None, None)
            continue
        n, total, low, high = cell
        if (
            type(n) is int
            and type(total) is int
            and type(low) is int
            and type(high) is int
            and 1 <= n <= MAX_SAMPLES
        ):
            mean = (2 * total + n) // (2 * n)
            if -LARGEST <= low <= mean <= high <= LARGEST:
                values += (mean, None if low == mean else low, None if high == mean else high)
                samples = max(samples, n)
                continue
        refused += 1
        values += (None, None, None)
    values[2] = samples
    return values, refused


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
