"""A source's own rollups, as buckets of our wider tiers. Pure.

Gravity's continuous queries keep means and highest values, never the lowest. A 5-minute value
stands for 5 minutes, and two of them make a bucket of 10; an hourly value stands for 60. Of
``filesystem/usage`` they keep the highest value only. It stands for the mean as well: disk usage
changes little within 5 minutes, and a chart that is a little high is better than none. Over an hour
this is less accurate, so the answer's notes mention it.

The rollups use Heapster's times, which are the ends of minutes, so each of their buckets begins one
minute before its label; that minute is not corrected.
"""

from __future__ import annotations

from collections.abc import Iterable

from metrics.series.catalog import TIERS
from metrics.series.rows import Cell
from metrics.series.windows import MINUTE
from metrics.sources.influxdb1.queries import Policy, Series
from metrics.sources.influxdb1.responses import Points, Span, check_span
from metrics.sources.row_builder import (
    MASK,
    NAMELESS,
    SHIFT,
    Table,
    as_cell,
    believable_parts,
    codes_of,
    integers,
    summed,
)


def put_rollups(
    points: Points, series: Series, policy: Policy, span: Span, table: Table, where: str
) -> None:
    """Add a policy's values to the table of their kind, each at its own start.

    Args:
        points: the points of one statement: the mean and the highest, or the highest alone.
        series: the requested series.
        policy: the policy that has the values.
        span: the requested range.
        table: the kind's table.
        where: the measurement's name, for errors.

    Raises:
        BadResponseError: a value is not a number, or one series has a time twice.
    """
    check_span(points.times, span, where)
    n = policy.step // MINUTE
    starts = (time - time % policy.step for time in points.times)
    codes = codes_of(starts, map(table.numbers.__getitem__, points.tags))
    if codes and min(codes) < 0:
        table.ignored += codes.count(NAMELESS)
    highest = _present(codes, points.values[-1])
    values = integers(highest[1], where)
    highs = dict(zip(highest[0], values, strict=True))
    if len(points.values) == 1:
        if series.merge == "sum":
            highs = summed(*believable_parts(table, series.field, highest[0], values))
        _check_once(highest[0], highs, series, table, where)
        totals = {code: n * high for code, high in highs.items()}
    else:
        means = _present(codes, points.values[0])
        totals = dict(zip(means[0], integers(means[1], where, n), strict=True))
        _check_once(means[0], totals, series, table, where)
        _check_once(highest[0], highs, series, table, where)
        totals |= {code: n * high for code, high in highs.items() if code not in totals}
    cells = {code: Cell(n, total, None, highs.get(code)) for code, total in totals.items()}
    table.put(series.field, list(cells), cells.values(), where)


def widen(table: Table, tier: str) -> None:
    """Merge the values of each bucket of a tier."""
    width = TIERS[tier]
    for column in table.fields.values():
        merged: dict[int, Cell] = {}
        for code, cell in column.items():
            start = code >> SHIFT
            bucket = (start - start % width) << SHIFT | code & MASK
            old = merged.get(bucket)
            merged[bucket] = as_cell(cell) if old is None else _both(old, as_cell(cell))
        column.clear()
        column.update(merged)


def _both(one: Cell, other: Cell) -> Cell:
    """Merge one field over two times; the highest is known only if both are."""
    high = None if one.high is None or other.high is None else max(one.high, other.high)
    return Cell(one.n + other.n, one.total + other.total, one.low, high)


def _present(codes: Iterable[int], values: list[object]) -> tuple[list[int], list[object]]:
    """Return codes and values without those that are null or of no series."""
    present = [
        (code, value)
        for code, value in zip(codes, values, strict=True)
        if value is not None and code >= 0
    ]
    return [code for code, _ in present], [value for _, value in present]


def _check_once(
    codes: list[int], column: dict[int, int], series: Series, table: Table, where: str
) -> None:
    if series.merge == "one" and len(column) != len(codes):
        raise table.twice(codes, where)
