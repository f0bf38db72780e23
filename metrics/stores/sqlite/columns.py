"""Columns of minutes as the values of a SQLite table's rows.

The rule for each value is :func:`metrics.series.rollups.minute`. A whole column is checked by loops
that run in C; only a column with gaps, or values to refuse, is processed value by value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import le
from typing import cast

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.minute_columns import FieldColumn, MinuteTable
from metrics.series.rollups import LARGEST, MAX_SAMPLES, minute
from metrics.series.rows import SeriesKey
from metrics.stores.errors import StoreError
from metrics.stores.sqlite.series import Series

Row = Sequence[int | None]
_Column = Iterable[int | None]
_INT = {int}


def newest_by_key(table: MinuteTable) -> dict[SeriesKey, int]:
    """Return the time of each key's newest minute; check the table.

    Raises:
        StoreError: if the table is malformed.
    """
    if table.kind == "cluster" or any(ts < 0 or ts % TIERS["1m"] for ts in set(table.times)):
        msg = f"a batch may not hold these {table.kind} rows: {sorted(set(table.times))[:3]}..."
        raise StoreError(msg)
    if len(table.columns) != len(FIELD_NAMES[table.kind]):
        msg = f"a {table.kind} row has {len(table.columns)} cells"
        raise StoreError(msg)
    newest: dict[int, int] = {}
    for ts, at in zip(table.times, table.series, strict=True):
        if newest.get(at, -1) < ts:
            newest[at] = ts
    return {table.keys[at]: ts for at, ts in newest.items()}


def table_values(table: MinuteTable, series: Series) -> tuple[list[Row], int, int]:
    """Return the rows of a 1m table, and how many values and how many rows were left out."""
    rows = len(table.times)
    oldest: dict[int, int] = {}
    for ts, at in zip(table.times, table.series, strict=True):
        if ts < oldest.get(at, ts + 1):
            oldest[at] = ts
    sids = {at: series.sid(table.keys[at], ts) for at, ts in oldest.items()}
    encoded: list[_Column] = []
    samples: list[_Column] = []
    refused = 0
    for column in table.columns:
        if column is None:
            encoded += ([None] * rows,) * 3
            continue
        parts, counts, bad = _encoded(column)
        encoded += parts
        samples.append(counts)
        refused += bad
    values = zip(
        table.times, map(sids.__getitem__, table.series), _most(samples, rows), *encoded,
        strict=True,
    )  # fmt: skip
    unknown = sum(1 for at in table.series if sids[at] is None) if None in sids.values() else 0
    if unknown:
        return [row for row in values if row[1] is not None], refused, unknown
    return list(values), refused, 0


def _encoded(column: FieldColumn) -> tuple[tuple[_Column, ...], _Column, int]:
    """Return mean, low and high, the samples, and how many cells were refused."""
    n, total, low, high = cast("tuple[list[int], ...]", column)
    if not n:
        return ((), (), ()), (), 0
    if all(set(map(type, part)) == _INT for part in (n, total, low, high)):
        mean = _means(n, total)
        if (
            mean is not None
            and min(low) >= -LARGEST
            and max(high) <= LARGEST
            and (low == mean or all(map(le, low, mean)))
            and (high == mean or all(map(le, mean, high)))
        ):
            return (mean, _apart(low, mean), _apart(high, mean)), n, 0
    return _one_by_one(column)


def _means(n: list[int], total: list[int]) -> list[int] | None:
    """Return the rounded means; None if a number of samples is invalid."""
    least, most = min(n), max(n)
    if least == most == 1:
        return total
    if least < 1 or most > MAX_SAMPLES:
        return None
    if least == most:
        return [(2 * s + most) // (2 * most) for s in total]
    return [(2 * s + k) // (2 * k) for s, k in zip(total, n, strict=True)]


def _apart(values: list[int], mean: list[int]) -> _Column:
    """Return the values, None where they equal the mean."""
    if values == mean:
        return repeat(None, len(mean))
    return [None if v == m else v for v, m in zip(values, mean, strict=True)]


def _one_by_one(column: FieldColumn) -> tuple[tuple[_Column, ...], _Column, int]:
    means: list[int | None] = []
    lows: list[int | None] = []
    highs: list[int | None] = []
    samples: list[int | None] = []
    refused = 0
    for at in range(len(column.n)):
        given = column.cell(at)
        cell = minute(given)
        refused += cell is None and given is not None
        if cell is None or given is None:
            parts: tuple[int | None, ...] = (None, None, None, None)
        else:
            _, mean, low, high = cell
            parts = (mean, None if low == mean else low, None if high == mean else high, given.n)
        for part, into in zip(parts, (means, lows, highs, samples), strict=True):
            into.append(part)
    return (means, lows, highs), samples, refused


def _most(samples: Sequence[_Column], rows: int) -> _Column:
    """Return the largest number of samples of each row; 0 where it has none."""
    lists = [list(part) for part in samples]
    if not lists:
        return repeat(0, rows)
    first = lists[0]
    if first and all(part == first for part in lists) and None not in first:
        return first
    return [max((n for n in row if n is not None), default=0) for row in zip(*lists, strict=True)]
