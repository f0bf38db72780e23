"""A minute without any value is no data, whoever sends it, and says why."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from metrics.series.catalog import FIELD_NAMES
from metrics.series.minute_columns import FieldColumn, Minutes, MinuteTable
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.series.source_answer import CollectorState, SourceAnswer
from metrics.sources.evidence import NO_VALUES, OLD_AGENT, with_evidence_only

START = 1_800_000_000


def row(minute: int, kind: str, value: int | None) -> MinuteRow:
    cells: list[Cell | None] = [None] * len(FIELD_NAMES[kind])
    if value is not None:
        cells[minute % len(cells)] = Cell(1, value, value, value)
    key = SeriesKey(kind, "" if kind == "node" else "n1", "n1" if kind == "node" else "p1")
    return MinuteRow(START + 60 * minute, key, tuple(cells))


def in_columns(rows: list[MinuteRow]) -> Minutes:
    tables = []
    for kind in ("node", "pod"):
        mine = [one for one in rows if one.key.kind == kind]
        columns = [
            FieldColumn(*zip(*(one.cells[at] or (None,) * 4 for one in mine), strict=True))
            if mine and any(one.cells[at] for one in mine)
            else None
            for at in range(len(FIELD_NAMES[kind]))
        ]
        keys = sorted({one.key for one in mine})
        series = [keys.index(one.key) for one in mine]
        tables.append(MinuteTable(kind, keys, [one.ts for one in mine], series, columns))
    return Minutes(tables)


def answer(rows, **more) -> SourceAnswer:
    alive = frozenset(one.ts for one in rows if one.key.kind == "node")
    end = START + 1200
    return replace(
        SourceAnswer(rows, [], START, end, START, end, float(end), "", "kubernetes", alive), **more
    )


MINUTES = st.lists(st.tuples(st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)))


@given(MINUTES, st.booleans())
def test_exactly_the_minutes_with_a_value_are_left(minutes, columns):
    rows = [
        row(minute, kind, value)
        for minute, values in enumerate(minutes)
        for kind, value in zip(("node", "pod"), values, strict=True)
    ]
    given_rows = in_columns(rows) if columns else rows
    got = with_evidence_only(answer(given_rows), is_agent=True)
    seen = {START + 60 * m for m, values in enumerate(minutes) if values != (None, None)}
    blind = {START + 60 * m for m in range(len(minutes))} - seen
    assert got.minutes_alive == seen
    assert got.failed == dict.fromkeys(blind, OLD_AGENT)
    by_key = sorted(got.rows, key=lambda one: (one.ts, one.key.kind))
    assert by_key == [one for one in rows if one.ts in seen]


def test_an_answer_with_values_everywhere_is_passed_on_as_it_is():
    full = answer([row(0, "node", 1), row(1, "node", 1)])
    assert with_evidence_only(full, is_agent=True) is full


def test_an_agent_that_knows_why_is_quoted_and_another_source_is_not_blamed_for_an_agent():
    rows = [row(0, "node", None)]
    told = answer(rows, collector=CollectorState(ok=False, error="HTTP 503", last_at=None))
    assert with_evidence_only(told, is_agent=True).failed == {START: "HTTP 503"}
    assert with_evidence_only(answer(rows), is_agent=False).failed == {START: NO_VALUES}


def test_a_minute_that_a_source_calls_recorded_without_any_row_is_no_data():
    alive = frozenset({START, START + 60})
    got = with_evidence_only(answer([row(0, "node", 1)], minutes_alive=alive), is_agent=False)
    assert (got.minutes_alive, got.failed) == ({START}, {START + 60: NO_VALUES})
