"""Rows of the SQLite store: a source's minute as the values of a table's columns."""

from __future__ import annotations

from metrics.rollups import LARGEST, MAX_SAMPLES
from metrics.stores.base import MinuteRow


def minute_values(row: MinuteRow, sid: int) -> tuple[list[int | None], int]:
    """Return the values of a 1m row and how many cells were refused.

    The same rule as :func:`metrics.rollups.minute`, written out because it runs for every value
    of every pod: ts, sid, samples, then mean, low, high of each field, where low and high are
    None if they equal the mean.
    """
    values: list[int | None] = [row.ts, sid, 0]
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
