"""What cannot be believed empties its own cell and is counted; all else is handed on as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.minute_columns import FieldColumn, Minutes, MinuteTable
from metrics.series.rows import Cell, CoarseRow, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.bounds import BOUNDS, LIMITS, REASONS, extremes, is_above
from metrics.sources.plausible import plausible, plausible_points

T = 1_800_000_000
GIB = 1 << 30
NODE, POD = SeriesKey("node", "", "n1"), SeriesKey("pod", "shop", "web-0")
DISK = SeriesKey("filesystem", "n1", "/")


def flat(value: int) -> Cell:
    return Cell(1, value, value, value)


def row(key: SeriesKey, ts: int = T, **values: int | Cell) -> MinuteRow:
    cells = {k: v if isinstance(v, Cell) else flat(v) for k, v in values.items()}
    return MinuteRow(ts, key, tuple(cells.get(name) for name in FIELD_NAMES[key.kind]))


def value_of(answer: SourceAnswer, key: SeriesKey, field: str, ts: int = T) -> Cell | None:
    (found,) = (one for one in answer.rows if (one.ts, one.key) == (ts, key))
    return found.cells[FIELD_NAMES[key.kind].index(field)]


def in_columns(rows: Sequence[MinuteRow]) -> Minutes:
    tables = []
    for kind in ("node", "filesystem", "pod"):
        of = [one for one in rows if one.key.kind == kind]
        keys = list(dict.fromkeys(one.key for one in of))
        columns = [
            FieldColumn(*map(list, zip(*(c or (None,) * 4 for c in cells), strict=True)))
            if any(cells)
            else None
            for cells in zip(*(one.cells for one in of), strict=True)
        ] or [None] * len(FIELD_NAMES[kind])
        series = [keys.index(one.key) for one in of]
        tables.append(MinuteTable(kind, keys, [one.ts for one in of], series, columns))
    return Minutes(tables)


def answered(
    *rows: MinuteRow, columns: bool = False, seconds: int = 60, coarse: Sequence[CoarseRow] = ()
) -> SourceAnswer:
    return SourceAnswer(
        rows=in_columns(rows) if columns else list(rows),
        infos=[SeriesInfo(POD, "n1")],
        start=T, end=T + seconds, oldest=T, newest_end=T + seconds, now=T + 90.0,
        agent_version="", kind="kubernetes", minutes_alive=frozenset({T}), coarse=coarse,
    )  # fmt: skip


GOOD = (
    row(NODE, cpu_mc=500, cpu_cap_mc=2000, mem_ws=GIB, mem_cap=8 * GIB, fs_used=40, fs_cap=100),
    row(DISK, used=40, cap=100, inodes_total=1000, inodes_free=10),
    row(POD, cpu_mc=0, mem_ws=0, restarts=7),
)


@pytest.mark.parametrize("columns", [True, False])
def test_a_good_answer_comes_out_as_the_same_object(columns):
    answer = answered(*GOOD, columns=columns)
    assert plausible(answer) is answer


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize(
    ("key", "field", "value", "says"),
    [
        (NODE, "cpu_mc", -3210, "node cpu_mc below zero"),
        (NODE, "cpu_mc", 602_000, "node cpu_mc more than its node has"),
        (NODE, "cpu_mc", 0, "node cpu_mc 0, which cannot be"),
        (NODE, "cpu_cap_mc", 0, "node cpu_cap_mc 0, which cannot be"),
        (NODE, "mem_ws", 0, "node mem_ws 0, which cannot be"),
        (NODE, "mem_ws", 9 * GIB, "node mem_ws more than its node has"),
        (NODE, "mem_cap", 0, "node mem_cap 0, which cannot be"),
        (NODE, "fs_used", 102, "node fs_used more than its node has"),
        (NODE, "net_rx_bps", 1 << 60, "node net_rx_bps more than any machine has"),
        (NODE, "uptime_s", T, "node uptime_s more than any machine has"),
        (NODE, "ready", 2, "node ready more than any machine has"),
        (DISK, "used", 40 - (224 << 40), "filesystem used below zero"),
        (DISK, "used", 102, "filesystem used more than there is"),
        (DISK, "cap", 0, "filesystem cap 0, which cannot be"),
        (DISK, "inodes_free", 1001, "filesystem inodes_free more than there is"),
        (POD, "cpu_mc", 5_200_000_000_000, "pod cpu_mc more than any machine has"),
        (POD, "cpu_mc", 5200, "pod cpu_mc more than its node has"),
        (POD, "mem_rss", 10 * GIB, "pod mem_rss more than its node has"),
        (POD, "fs_used", 102, "pod fs_used more than its node has"),
        (POD, "restarts", -1, "pod restarts below zero"),
    ],
)
def test_what_cannot_be_empties_its_cell_and_is_counted(key, field, value, says, columns):
    rows = list(GOOD)
    at = next(at for at, one in enumerate(rows) if one.key == key)
    cells = list(rows[at].cells)
    cells[FIELD_NAMES[key.kind].index(field)] = flat(value)
    rows[at] = rows[at]._replace(cells=tuple(cells))
    got = plausible(answered(*rows, columns=columns))
    assert got.refused == {says: 1}
    cells[FIELD_NAMES[key.kind].index(field)] = None
    rows[at] = rows[at]._replace(cells=tuple(cells))
    assert list(got.rows) == rows


def test_the_mean_of_a_minute_may_be_a_little_above_the_capacity_and_a_sample_twice_it():
    late = Cell(4, 4 * 2400, 1000, 3900)
    good = answered(row(NODE, cpu_mc=late, cpu_cap_mc=2000))
    assert plausible(good) is good
    for bad in (Cell(4, 4 * 2600, 1000, 3900), Cell(4, 4 * 2000, 1000, 4100)):
        assert plausible(answered(row(NODE, cpu_mc=bad, cpu_cap_mc=2000))).refused


def test_a_sample_of_an_idle_machine_may_be_zero_but_not_the_mean_of_a_minute():
    good = answered(row(NODE, cpu_mc=Cell(4, 2, 0, 1)))
    assert plausible(good) is good


def test_a_capacity_that_is_missing_in_a_minute_is_the_largest_of_the_others():
    got = plausible(answered(
        row(NODE, cpu_mc=1, cpu_cap_mc=2000), row(NODE, T + 60, cpu_mc=602_000),
    ))  # fmt: skip
    assert value_of(got, NODE, "cpu_mc", T + 60) is None
    assert value_of(got, NODE, "cpu_mc").total == 1


def test_without_a_capacity_that_can_be_believed_the_largest_machine_there_is_limits():
    got = plausible(answered(row(NODE, cpu_mc=602_000, cpu_cap_mc=0), row(POD, cpu_mc=10**10)))
    assert value_of(got, NODE, "cpu_mc") == flat(602_000)
    assert value_of(got, POD, "cpu_mc") is None


@pytest.mark.parametrize(("name", "kept"), [("web-5d4f-x7b2z", False), ("web-0", True)])
def test_a_pod_that_may_have_moved_is_compared_with_the_largest_node(name, kept):
    large, pod = SeriesKey("node", "", "n2"), SeriesKey("pod", "shop", name)
    rows = (row(NODE, cpu_cap_mc=2000), row(large, cpu_cap_mc=64_000), row(pod, cpu_mc=9000))
    answer = replace(answered(*rows), infos=[SeriesInfo(pod, "n1")])
    assert (value_of(plausible(answer), pod, "cpu_mc") is not None) is kept


def test_wider_buckets_obey_the_same_rules_where_the_lowest_value_is_not_known():
    cells: list[Cell | None] = [None] * len(FIELD_NAMES["node"])
    coarse = []
    for cell in (Cell(10, 5000, None, 900), Cell(10, -50, None, 900), Cell(10, 50, None, 1 << 50)):
        coarse.append(CoarseRow("10m", T + 600 * len(coarse), NODE, (cell, *cells[1:])))
    got = plausible(answered(coarse=coarse))
    assert [one.cells[0] for one in got.coarse] == [coarse[0].cells[0], None, None]
    assert got.coarse[0] is coarse[0]
    assert got.refused == {"node cpu_mc below zero": 1, "node cpu_mc more than any machine has": 1}


def test_what_the_source_itself_left_out_is_counted_too():
    answer = replace(answered(row(NODE, cpu_mc=-1)), refused={"node cpu_mc below zero": 2})
    assert plausible(answer).refused == {"node cpu_mc below zero": 3}


def test_points_of_a_chart_obey_the_same_rules():
    times, values = [T, T + 15.5, T + 30, T + 45], [0.0, -3.2, 3900.0, 4100.0]
    assert plausible_points("node", "cpu_mc", times, values, 2000) == ([T, T + 30], [0.0, 3900.0])
    good = [1.0, 2.0, 3.0, 4.0]
    assert plausible_points("node", "cpu_mc", times, good, None)[1] is good


VALUES = st.integers(-5, 5) | st.integers(0, 3000) | st.integers(-(2**70), 2**70)
CELLS = st.none() | st.lists(VALUES, min_size=1, max_size=4).map(
    lambda v: Cell(len(v), sum(v), min(v), max(v))
)
KEYS: dict[Kind, list[SeriesKey]] = {
    "node": [NODE, SeriesKey("node", "", "n2")],
    "filesystem": [DISK, SeriesKey("filesystem", "n2", "/")],
    "pod": [POD, SeriesKey("pod", "shop", "web-1")],
}


@st.composite
def minutes(draw: st.DrawFn) -> list[MinuteRow]:
    places = st.sampled_from([(kind, at, m) for kind in KEYS for at in (0, 1) for m in range(3)])
    found = []
    for kind, at, minute in sorted(draw(st.sets(places, max_size=8)), key=lambda one: one[2]):
        cells = tuple(draw(CELLS) for _ in FIELD_NAMES[kind])
        found.append(MinuteRow(T + 60 * minute, KEYS[kind][at], cells))
    return found


def is_good(one: MinuteRow) -> bool:
    """Tell whether a row obeys the rules that need no other row."""
    named = dict(zip(FIELD_NAMES[one.key.kind], one.cells, strict=True))
    within = all(
        cell is None or not bounds.why(*extremes(cell))
        for cell, bounds in zip(one.cells, BOUNDS[one.key.kind], strict=True)
    )
    return within and not any(
        (cell := named[limit.field]) and (most := named[limit.of]) and is_above(cell, most, limit)
        for limit in LIMITS.get(one.key.kind, ())
    )


@settings(max_examples=200, deadline=None)
@given(rows=minutes(), columns=st.booleans())
def test_what_comes_out_obeys_the_rules_and_all_else_is_as_it_was(rows, columns):
    answer = answered(*rows, columns=columns, seconds=180)
    before = list(answer.rows)
    got = plausible(answer)
    after = list(got.rows)
    assert [(one.ts, one.key) for one in after] == [(one.ts, one.key) for one in before]
    assert all(map(is_good, after))
    lost = 0
    for old, new in zip(before, after, strict=True):
        for cell, kept in zip(old.cells, new.cells, strict=True):
            assert kept == cell or kept is None
            lost += kept is None and cell is not None
        if not columns and old.cells == new.cells:
            assert new is old
    assert sum(got.refused.values()) == lost
    assert set(got.refused) <= REASONS
    assert (got is answer) == (lost == 0)
    assert plausible(replace(got, refused={})).refused == {}


@settings(max_examples=100, deadline=None)
@given(rows=minutes())
def test_rows_and_columns_are_judged_alike(rows):
    in_rows, columns = answered(*rows, seconds=180), answered(*rows, columns=True, seconds=180)
    one, other = plausible(in_rows), plausible(columns)
    by_place = lambda found: sorted(found.rows, key=lambda row: (row.ts, row.key))  # noqa: E731
    assert by_place(one) == by_place(other)
    assert one.refused == other.refused
