"""Rollups: the arithmetic that turns minutes into wider buckets. Pure.

A source's minute holds several samples. The store keeps its mean, rounded to an integer, and its
lowest and highest sample; from there on a *minute* is the unit: a wider bucket counts minutes
(``n``), adds up their means (``total``) and keeps the extremes, so that ``mean = total / n``.
All of it is exact integer arithmetic: merging in any grouping and order gives the same bucket.

The SQLite store does the same in SQL; its tests compare it with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from metrics.series.catalog import CATALOG, FIELD_NAMES
from metrics.series.rows import Cell, Columns

LARGEST = 2**57
"""No larger value is stored, so that the sum of an hour of minutes fits into 64 bits."""

MAX_SAMPLES = 100_000
"""A minute with more samples is refused as invalid."""

Cells = tuple[Cell | None, ...]


def bucket_start(ts: int, width: int) -> int:
    """Return the start of the bucket of ``width`` seconds that holds the Unix time ``ts``."""
    return ts - ts % width


def rounded_mean(total: int, n: int) -> int:
    """Return ``total / n`` rounded to the nearest integer, halves up; ``n`` >= 1."""
    return (2 * total + n) // (2 * n)


def minute(cell: Cell | None) -> Cell | None:
    """Turn a source's samples of one minute into the stored minute: n 1, total the rounded mean.

    Returns None for None and for a cell that is refused: values that are not integers or beyond
    :data:`LARGEST`, no samples or too many, or extremes on the wrong side of the mean.
    """
    if cell is None:
        return None
    n, total, low, high = cell
    if type(n) is not int or type(total) is not int or not 1 <= n <= MAX_SAMPLES:
        return None
    if type(low) is not int or type(high) is not int:
        return None
    mean = rounded_mean(total, n)
    if not -LARGEST <= low <= mean <= high <= LARGEST:
        return None
    return Cell(1, mean, low, high)


def coarse(cell: Cell | None, width: int) -> Cell | None:
    """Return a wider bucket's cell as it is stored, which is unchanged.

    Returns None for None and for a cell that is refused: values that are not integers or beyond
    :data:`LARGEST`, no minutes or more than fit into ``width`` seconds, or extremes on the wrong
    side of the mean. The extremes may be None.
    """
    if cell is None:
        return None
    n, total, low, high = cell
    if type(n) is not int or type(total) is not int or not 1 <= n <= width // 60:
        return None
    if any(type(end) is not int and end is not None for end in (low, high)):
        return None
    least = -LARGEST if low is None else low
    most = LARGEST if high is None else high
    if not (least >= -LARGEST and least * n <= total <= most * n and most <= LARGEST):
        return None
    return cell


def merge(cells: Iterable[Cell | None]) -> Cell | None:
    """Merge cells of one field over disjoint times; None where none was measured.

    The extremes are None if any part's is.
    """
    n = total = 0
    lows: list[int | None] = []
    highs: list[int | None] = []
    for cell in cells:
        if cell is None:
            continue
        n += cell.n
        total += cell.total
        lows.append(cell.low)
        highs.append(cell.high)
    return Cell(n, total, _known(min, lows), _known(max, highs)) if n else None


def _known(pick: Callable[[list[int]], int], values: Sequence[int | None]) -> int | None:
    """Return the least or most of several values; None if any is unknown, or there are none."""
    known = [value for value in values if value is not None]
    return pick(known) if known and len(known) == len(values) else None


def merge_rows(rows: Sequence[Cells]) -> Cells:
    """Merge whole rows, field by field; () if there is no row."""
    return tuple(merge(column) for column in zip(*rows, strict=True))


def laid_over(new: Cells, old: Cells) -> Cells:
    """Return ``new`` with the fields it lacks taken from ``old``."""
    return tuple(b if a is None else a for a, b in zip(new, old, strict=True))


def cluster_minute(nodes: Sequence[Cells]) -> Cells:
    """Return the cluster's stored minute from the stored minutes of its nodes.

    A sum's low and high equal the sum of means: the lowest moment of a sum is not known from the
    lowest moments of its parts. Nodes that did not measure a field do not count for it;
    ``nodes_total`` is how many nodes have this minute, ``nodes_ready`` how many of them were ready
    (None if none reported it).
    """
    by_name = dict(zip(FIELD_NAMES["node"], zip(*nodes, strict=True), strict=True)) if nodes else {}
    cells: list[Cell | None] = []
    for field in CATALOG["cluster"]:
        if field.name == "nodes_total":
            cells.append(_flat(len(nodes)))
        elif field.name == "nodes_ready":
            cells.append(_across(by_name.get("ready", ()), "sum"))
        else:
            cells.append(_across(by_name.get(field.name, ()), field.across_nodes or "sum"))
    return tuple(cells)


def _across(column: Iterable[Cell | None], combine: str) -> Cell | None:
    """Combine one field of several nodes over the same minute."""
    cells = [cell for cell in column if cell is not None]
    if not cells:
        return None
    if combine == "sum":
        return _flat(sum(cell.total for cell in cells))
    pick: Callable[[list[int]], int] = max if combine == "max" else min
    return Cell(
        1,
        pick([cell.total for cell in cells]),
        _known(pick, [cell.low for cell in cells]),
        _known(pick, [cell.high for cell in cells]),
    )


def cluster_bucket(nodes: Sequence[Cells]) -> Cells:
    """Return the cluster's wider bucket from those of its nodes, where there are no minutes.

    Sums add up; their extremes are not known. For a field that takes the largest (or smallest)
    value, the bucket with the largest (or smallest) mean stands for all. ``nodes_total`` adds up
    how many minutes each node has, so that its mean is how many nodes there were.
    """
    by_name = dict(zip(FIELD_NAMES["node"], zip(*nodes, strict=True), strict=True)) if nodes else {}
    cells: list[Cell | None] = []
    for field in CATALOG["cluster"]:
        if field.name == "nodes_total":
            minutes = [max((cell.n for cell in row if cell), default=0) for row in nodes]
            cells.append(_added([Cell(n, n, 1, 1) for n in minutes if n]))
        elif field.name == "nodes_ready":
            cells.append(_across_buckets(by_name.get("ready", ()), "sum"))
        else:
            cells.append(_across_buckets(by_name.get(field.name, ()), field.across_nodes or "sum"))
    return tuple(cells)


def _across_buckets(column: Iterable[Cell | None], combine: str) -> Cell | None:
    """Combine one field of several nodes over the same bucket."""
    cells = [cell for cell in column if cell is not None]
    if not cells or combine == "sum":
        return _added(cells)
    pick: Callable[[list[int]], int] = max if combine == "max" else min
    sign = 1 if combine == "max" else -1
    # As fractions: of equal means the one of more minutes wins, so the order does not matter.
    worst = max(cells, key=lambda cell: (sign * Fraction(cell.total, cell.n), cell.n))
    return worst._replace(
        low=_known(pick, [cell.low for cell in cells]),
        high=_known(pick, [cell.high for cell in cells]),
    )


def _added(cells: Sequence[Cell]) -> Cell | None:
    """Return the sum of several nodes' buckets; None for none, or beyond what is stored."""
    if not cells:
        return None
    n = max(cell.n for cell in cells)
    total = sum(cell.total for cell in cells)
    return Cell(n, total, None, None) if -LARGEST * n <= total <= LARGEST * n else None


def _flat(value: int) -> Cell | None:
    """Return a minute of one value; None beyond what the store holds."""
    return Cell(1, value, value, value) if -LARGEST <= value <= LARGEST else None


def rebucket(columns: Columns, width: int) -> Columns:
    """Merge columns into buckets of ``width`` seconds, a multiple of their own width.

    The extremes are None if any part's is.

    Args:
        columns: the buckets, ascending in time.
        width: bucket width in seconds, > 0.
    """
    merged = Columns([], [], [], [], [], columns.damaged)
    entries = zip(columns.t, columns.n, columns.total, columns.low, columns.high, strict=True)
    for t, n, total, low, high in entries:
        start = bucket_start(t, width)
        if merged.t and merged.t[-1] == start:
            merged.n[-1] += n
            merged.total[-1] += total
            # Inlined: for years of hours this is most of a page's time.
            least, most = merged.low[-1], merged.high[-1]
            merged.low[-1] = None if least is None or low is None else min(least, low)
            merged.high[-1] = None if most is None or high is None else max(most, high)
            continue
        merged.t.append(start)
        merged.n.append(n)
        merged.total.append(total)
        merged.low.append(low)
        merged.high.append(high)
    return merged
