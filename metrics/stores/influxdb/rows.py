"""Rows of the InfluxDB store: cells as the values of a point's fields, and points as lines."""

from __future__ import annotations

from collections.abc import Sequence

from metrics.series.catalog import TIERS
from metrics.series.rollups import coarse, minute
from metrics.series.rows import Cell, CoarseRow, MinuteRow, SeriesKey
from metrics.stores.influxdb.names import NOTHING, columns, escaped, tag

Values = list[int | None]
"""n, then the fields of :func:`metrics.stores.influxdb.names.columns`. None or
:data:`~metrics.stores.influxdb.names.NOTHING`: the point does not have it, or no longer."""
Cells = tuple[Cell | None, ...]


def minute_cells(row: MinuteRow) -> tuple[int, Cells, int]:
    """Return a source's minute as it is stored: samples, cells, and how many were refused."""
    cells = tuple(minute(cell) for cell in row.cells)
    samples = 0
    for cell, stored in zip(row.cells, cells, strict=True):
        if cell is not None and stored is not None and cell.n > samples:
            samples = cell.n
    return samples, cells, cells.count(None) - row.cells.count(None)


def coarse_cells(row: CoarseRow) -> tuple[int, Cells, int]:
    """Return a wider bucket as it is stored: minutes, cells, and how many were refused."""
    width = TIERS[row.tier]
    cells = tuple(coarse(cell, width) for cell in row.cells)
    minutes = max((cell.n for cell in cells if cell), default=0)
    return minutes, cells, cells.count(None) - row.cells.count(None)


def values_of(tier: str, n: int, cells: Sequence[Cell | None]) -> Values:
    """Return a row's values; in the 1m tier low and high are None where they equal the mean."""
    values: Values = [n]
    if tier == "1m":
        for cell in cells:
            if cell is None:
                values += (None, None, None)
            else:
                _, mean, low, high = cell
                values += (mean, None if low == mean else low, None if high == mean else high)
        return values
    for cell in cells:
        values += (None, None, None, None) if cell is None else cell
    return values


def cells_of(tier: str, values: Sequence[int | None]) -> tuple[int, Cells]:
    """Return n and the cells of a row's values; undoes :func:`values_of`."""
    known = [None if value == NOTHING else value for value in values]
    cells: list[Cell | None] = []
    if tier == "1m":
        for at in range(1, len(known), 3):
            mean, low, high = known[at : at + 3]
            cells.append(
                None
                if mean is None
                else Cell(1, mean, mean if low is None else low, mean if high is None else high)
            )
    else:
        for at in range(1, len(known), 4):
            n, total, low, high = known[at : at + 4]
            cells.append(None if n is None or total is None else Cell(n, total, low, high))
    return known[0] or 0, tuple(cells)


def line_head(cluster: str, key: SeriesKey) -> str:
    """Return a line's measurement and tags: the series, ordered as InfluxDB stores them."""
    name, ns = escaped(tag(key.name)), escaped(tag(key.ns))
    return f"{key.kind},cluster={cluster},name={name},ns={ns} "


def line(
    head: str,
    key: SeriesKey,
    tier: str,
    ts: int,
    new: Values,
    old: Values | None,
    *,
    whole: bool = False,
) -> bytes:
    """Return the line that turns a stored point into a new one; b"" if they are the same.

    Args:
        head: the series' measurement and tags, from :func:`line_head`.
        key: the series.
        tier: the point's tier.
        ts: the point's time in Unix seconds.
        new: the point's new values.
        old: the point's stored values; None if there is no point.
        whole: whether to set every field, because ``old`` may be in another bucket.
    """
    parts = []
    for at, name in enumerate(columns(key.kind, tier)):
        value, stored = new[at], None if old is None else old[at]
        if whole:
            parts.append(f"{name}={NOTHING if value is None else value}i")
        elif value == stored:
            continue
        elif value is not None:
            parts.append(f"{name}={value}i")
        elif stored is not None and stored != NOTHING:
            parts.append(f"{name}={NOTHING}i")
    return f"{head}{','.join(parts)} {ts}".encode() if parts else b""
