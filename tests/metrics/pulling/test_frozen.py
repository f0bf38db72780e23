"""Old values under new times are noticed by uptimes that stand still."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metrics.pulling.frozen import frozen_since, is_moving
from metrics.series.catalog import FIELD_NAMES
from metrics.series.minute_columns import FieldColumn, Minutes, MinuteTable
from metrics.series.rows import Cell, Columns, MinuteRow, SeriesKey
from tests.fleet.answers import SimulatedAgent
from tests.fleet.world import World

T0 = 1_800_000_000
NAMES = FIELD_NAMES["node"]


def at(minute: int) -> int:
    return T0 + 60 * minute


def key(name: str) -> SeriesKey:
    return SeriesKey("node", "", name)


def rows(name: str, uptimes: dict[int, int | None]) -> list[MinuteRow]:
    found = []
    for minute, uptime in uptimes.items():
        cells: list[Cell | None] = [None] * len(NAMES)
        cells[NAMES.index("cpu_mc")] = Cell(4, 4, 1, 1)
        if uptime is not None:
            cells[NAMES.index("uptime_s")] = Cell(4, 4 * uptime, uptime, uptime)
        found.append(MinuteRow(at(minute), key(name), tuple(cells)))
    return found


def still(first: int, last: int, uptime: int = 500) -> dict[int, int | None]:
    return dict.fromkeys(range(first, last), uptime)


def running(first: int, last: int) -> dict[int, int | None]:
    return {minute: 60 * minute for minute in range(first, last)}


def test_three_minutes_without_growth_are_frozen_since_the_first_of_them():
    before = {**running(0, 3), **still(3, 7)}
    assert frozen_since(rows("n1", before)) == at(3)
    assert frozen_since(rows("n1", {**running(0, 3), **still(3, 6)})) is None


def test_one_node_that_goes_on_proves_that_the_source_does():
    both = [*rows("n1", still(0, 9)), *rows("n2", running(0, 9))]
    assert frozen_since(both) is None
    both = [*rows("n1", still(0, 9)), *rows("n2", {**running(0, 4), **still(4, 9, 7)})]
    assert frozen_since(both) == at(4)


def test_a_node_that_restarted_is_no_frozen_one():
    assert frozen_since(rows("n1", {**still(0, 5, 9000), 5: 30})) is None


def test_nodes_of_which_no_uptime_is_known_prove_nothing():
    assert frozen_since([]) is None
    assert frozen_since(rows("n1", dict.fromkeys(range(9)))) is None
    both = [*rows("n1", dict.fromkeys(range(9))), *rows("n2", still(0, 9))]
    assert frozen_since(both) == at(0)


def test_a_node_that_has_just_come_is_something_new():
    both = [*rows("n1", still(0, 9)), *rows("n2", {8: 12})]
    assert frozen_since(both) is None


def test_a_node_that_has_gone_does_not_hide_the_others():
    both = [*rows("n1", still(0, 9)), *rows("n2", running(0, 4))]
    assert frozen_since(both) == at(0)


def test_stored_minutes_are_compared_with_where_the_answer_is_short():
    answer = rows("n1", {9: 500})
    assert frozen_since(answer) is None
    times = [at(minute) for minute in (3, 4, 6, 7, 8)]
    uptimes = [440, 500, 500, 500, 500]
    stored = {key("n1"): Columns(times, [1] * 5, uptimes, [*uptimes], [*uptimes])}
    assert frozen_since(answer, stored) == at(4)
    assert frozen_since(rows("n1", {9: 560}), stored) is None


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 3))
def test_columns_and_rows_give_the_same(steps, nodes):
    plain = []
    for number in range(nodes):
        uptime, uptimes = 100, {}
        for minute, step in enumerate(steps):
            uptime += 60 * (step if number == 0 else min(step, 1))
            uptimes[minute] = uptime
        plain += rows(f"n{number}", uptimes)
    keys = sorted({row.key for row in plain})
    columns: list[FieldColumn | None] = [None] * len(NAMES)
    cells = [row.cells[NAMES.index("uptime_s")] for row in plain]
    if cells:
        columns[NAMES.index("uptime_s")] = FieldColumn(*zip(*cells, strict=True))
    times, series = [row.ts for row in plain], [keys.index(row.key) for row in plain]
    table = MinuteTable("node", keys, times, series, columns)
    assert frozen_since(Minutes([table])) == frozen_since(plain)


def test_a_simulated_cluster_that_runs_is_not_frozen():
    agent = SimulatedAgent(World.make(3, 1), born=T0, clock=lambda: at(20))
    node = agent.range(T0, at(20))["kinds"]["node"]
    names = [series["name"] for series in node["series"]]
    field = node["fields"]["uptime_s"]
    columns: list[FieldColumn | None] = [None] * len(NAMES)
    columns[NAMES.index("uptime_s")] = FieldColumn(*(field[part] for part in "nslh"))
    table = MinuteTable("node", [key(name) for name in names], node["t"], node["i"], columns)
    assert frozen_since(Minutes([table])) is None


def test_an_answer_moves_if_the_uptime_of_any_node_changes_in_it():
    both = [*rows("n1", still(0, 4)), *rows("n2", running(0, 4))]
    assert is_moving(both, at(0))
    assert not is_moving(both, at(3))
    assert not is_moving(rows("n1", {**running(0, 2), **still(2, 4)}), at(2))
    assert not is_moving(rows("n1", dict.fromkeys(range(3))), at(0))
