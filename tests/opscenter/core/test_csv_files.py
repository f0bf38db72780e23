"""No cell of a CSV is a formula, wherever a spreadsheet splits the lines."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscenter.core.csv_files import CsvWriter, csv_cell
from tests.fleet.hostile import HOSTILE

ROOT = Path(__file__).resolve().parents[3]
SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
SEPARATORS = (",", ";", "\t", "|", ":", " ")


def lines_of(*rows: tuple[object, ...]) -> str:
    """Return what the writer makes of some rows."""
    out = io.StringIO()
    writer = CsvWriter(out)
    for row in rows:
        writer.row(row)
    return out.getvalue()


def formulas(text: str, separator: str, quote: str) -> list[str]:
    """Return the cells that a spreadsheet computes, split and unquoted as it was told to."""
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    options = {"quotechar": quote} if quote else {}
    cells = [
        cell.strip(' \t\r\n\u00a0\ufeff\u200b"')
        for row in csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, **options
        )
        for cell in row
    ]
    return [cell for cell in cells if cell[:1] in tuple(SIGNS) and len(cell) > 1]


@pytest.mark.parametrize("quote", ['"', ""])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_no_hostile_name_is_a_formula_for_any_separator(separator, quote):
    text = lines_of(*(("cluster", name, 1.5, name) for name in HOSTILE))
    assert formulas(text, separator, quote) == []


@given(
    st.text(alphabet=f"{SIGNS};,|:\t\r\n \"'a1\u00a0", max_size=12),
    st.sampled_from(SEPARATORS),
    st.sampled_from(['"', ""]),
)
def test_no_text_is_a_formula_for_any_separator(name, separator, quote):
    found = formulas(lines_of(("x", name, "y")), separator, quote)
    assert [cell for cell in found if cell.strip(SIGNS + "'\"")] == []


@pytest.mark.parametrize(
    "text",
    ["web-0", "kube-system", "a - b", "10.0.0.1:9090", "2026-03-01T12:00:00Z", "user@host", "a=b"],
)
def test_an_ordinary_name_stays_as_it_is(text):
    assert csv_cell(text) == text


def test_numbers_stay_numbers():
    assert lines_of((-1, -1.5, None, True)) == "-1,-1.5,,True\r\n"


def test_columns_are_guarded_as_rows_are():
    out = io.StringIO()
    CsvWriter(out).columns([["=1", "=1", None], [-1, None, 2]], numbers={1})
    assert out.getvalue() == "'=1,-1\r\n'=1,\r\n,2\r\n"


def test_nothing_else_of_the_product_writes_csv():
    writers = set()
    for top in ("agent", "clusters", "metrics", "opscenter"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = {
                    ast.Attribute: lambda at: {at.attr},
                    ast.ImportFrom: lambda at: {alias.name for alias in at.names},
                }.get(type(node), lambda _: set())(node)
                if names & {"DictWriter", "to_csv", "write_csv"} or (
                    isinstance(node, ast.Attribute)
                    and node.attr == "writer"
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "csv"
                ):
                    writers.add(str(path.relative_to(ROOT)))
    assert writers == {"opscenter/core/csv_files.py"}
