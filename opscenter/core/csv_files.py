"""CSV for spreadsheets: the one place where lines are written, so that no cell becomes a formula.

A spreadsheet splits a file at whatever its language or its user calls a separator, and ignores our
quotes where a line does not begin with one. So a text is guarded at every place where a cell could
begin, not only at its own beginning.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from typing import TextIO

# What starts a formula, also as the full-width forms that East Asian spreadsheets take for them.
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(
    # At the beginning, or after what may separate or enclose cells, whatever blanks follow it.
    rf"(?:^|[,;|:\t\r\n\"'])[\s\ufeff\u200b]*(?=[{_SIGNS}])"
    # A blank may separate, too; between blanks a sign is a cell of its own, and computes nothing.
    rf"|\s(?=[{_SIGNS}](?:\S|\Z))"
    # A tab or a line break at the beginning is dropped by some, with what it would protect.
    r"|^(?=[\t\r\n])"
)


def csv_cell(text: str) -> str:
    """Return text that no spreadsheet takes for a formula, with apostrophes where it could."""
    return _FORMULA.sub(lambda found: f"{found[0]}'", text)


class CsvWriter:
    """Writes lines of cells; every text is guarded by :func:`csv_cell`."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream)

    def row(self, cells: Iterable[object]) -> None:
        """Write a line; None is an empty cell, a float has at most 15 digits."""
        self._writer.writerow([_shown(cell) for cell in cells])

    def columns(self, columns: Sequence[Sequence[object]], numbers: Collection[int] = ()) -> None:
        """Write lines that are given as columns of the same length.

        Args:
            columns: the cells of each column.
            numbers: which columns hold whole numbers and None only; they are written as they are.
        """
        shown = [
            column if at in numbers else _shown_column(column) for at, column in enumerate(columns)
        ]
        self._writer.writerows(zip(*shown, strict=True))


def _shown_column(column: Sequence[object]) -> list[str]:
    """Return a column's cells; each distinct one is looked at once, as most repeat."""
    known: dict[object, str] = {}
    for cell in column:
        if cell not in known:
            known[cell] = _shown(cell)
    return [known[cell] for cell in column]


def _shown(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.15g}"
    return csv_cell(cell) if isinstance(cell, str) else str(cell)
