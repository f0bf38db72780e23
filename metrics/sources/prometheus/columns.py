"""Columns of one field of one series, merged minute by minute. Pure."""

from __future__ import annotations

from collections.abc import Collection

from metrics.sources.prometheus.responses import Cells


def largest(one: Cells, other: Cells) -> Cells:
    """Return the larger of two columns' values, minute by minute."""
    return [
        b if a is None else a if b is None or a.total >= b.total else b
        for a, b in zip(one, other, strict=True)
    ]


def first(one: Cells | None, other: Cells) -> Cells:
    """Return ``one``, with the other's values where it has none."""
    if one is None:
        return other
    return [b if a is None else a for a, b in zip(one, other, strict=True)]


def without(cells: Cells, gone: Collection[int]) -> Cells:
    """Return a column without the values at some positions."""
    return [None if at in gone else cell for at, cell in enumerate(cells)]
