"""Old values under new times are noticed by uptimes that come again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.pulling.frozen import frozen_since, newest_uptimes, witness
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
    assert frozen_since(newest_uptimes(rows("n1", before))) == at(3)
    assert frozen_since(newest_uptimes(rows("n1", {**running(0, 3), **still(3, 6)}))) is None


def test_one_node_that_goes_on_proves_that_the_source_does():
    both = [*rows("n1", still(0, 9)), *rows("n2", running(0, 9))]
    assert frozen_since(newest_uptimes(both)) is None
    both = [*rows("n1", still(0, 9)), *rows("n2", {**running(0, 4), **still(4, 9, 7)})]
    assert frozen_since(newest_uptimes(both)) == at(4)


def test_a_node_that_restarted_is_no_frozen_one():
    assert frozen_since(newest_uptimes(rows("n1", {**still(0, 5, 9000), 5: 30}))) is None


def test_nodes_of_which_no_uptime_is_known_prove_nothing():
    assert frozen_since(newest_uptimes([])) is None
    assert frozen_since(newest_uptimes(rows("n1", dict.fromkeys(range(9))))) is None
    both = [*rows("n1", dict.fromkeys(range(9))), *rows("n2", still(0, 9))]
    assert frozen_since(newest_uptimes(both)) == at(0)


def test_a_node_that_has_just_come_is_something_new():
    both = [*rows("n1", still(0, 9)), *rows("n2", {8: 12})]
    assert frozen_since(newest_uptimes(both)) is None


def test_a_node_that_has_gone_does_not_hide_the_others():
    both = [*rows("n1", still(0, 9)), *rows("n2", running(0, 4))]
    assert frozen_since(newest_uptimes(both)) == at(0)


def test_stored_minutes_are_compared_with_where_the_answer_is_short():
    answer = rows("n1", {9: 500})
    assert frozen_since(newest_uptimes(answer)) is None
    times = [at(minute) for minute in (3, 4, 6, 7, 8)]
    uptimes = [440, 500, 500, 500, 500]
    stored = {key("n1"): Columns(times, [1] * 5, uptimes, [*uptimes], [*uptimes])}
    assert frozen_since(newest_uptimes(answer), stored) == at(4)
    assert frozen_since(newest_uptimes(rows("n1", {9: 560})), stored) is None


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
    assert frozen_since(newest_uptimes(Minutes([table]))) == frozen_since(newest_uptimes(plain))


def test_a_simulated_cluster_that_runs_is_not_frozen():
    agent = SimulatedAgent(World.make(3, 1), born=T0, clock=lambda: at(20))
    node = agent.range(T0, at(20))["kinds"]["node"]
    names = [series["name"] for series in node["series"]]
    field = node["fields"]["uptime_s"]
    columns: list[FieldColumn | None] = [None] * len(NAMES)
    columns[NAMES.index("uptime_s")] = FieldColumn(*(field[part] for part in "nslh"))
    table = MinuteTable("node", [key(name) for name in names], node["t"], node["i"], columns)
    assert frozen_since(newest_uptimes(Minutes([table]))) is None


def replayed(first: int, last: int, *, minutes: int, uptime: int = 90_000) -> dict[int, int | None]:
    """Return a machine's uptimes of some minutes, again and again under new times."""
    return {at: uptime + 60 * (at % minutes) for at in range(first, last)}


@pytest.mark.parametrize("minutes", [1, 2, 3, 4, 5, 7, 10, 15, 20])
def test_minutes_that_come_again_are_frozen_from_the_end_of_the_first_time(minutes):
    for last in range(2 * minutes + 4, 2 * minutes + 12):
        once = rows("n1", replayed(0, last, minutes=minutes))
        assert frozen_since(newest_uptimes(once)) == at(minutes - 1), last


@pytest.mark.parametrize("minutes", [4, 7, 20])
def test_the_first_minute_that_comes_again_gives_the_loop_away(minutes):
    before = rows("n1", replayed(0, minutes, minutes=minutes))
    assert frozen_since(newest_uptimes(before)) is None
    again = rows("n1", replayed(0, minutes + 1, minutes=minutes))
    assert frozen_since(newest_uptimes(again)) == at(minutes - 1)


def test_a_loop_of_no_whole_minutes_is_found_too():
    uptimes = {minute: 90_000 + (60 * minute) % 410 for minute in range(30)}
    for last in range(12, 30):
        looped = rows("n1", {minute: uptimes[minute] for minute in range(last)})
        assert frozen_since(newest_uptimes(looped)) is not None, last


def test_a_loop_that_is_found_by_stored_minutes_is_found_in_every_minute():
    looped = replayed(0, 60, minutes=7)
    for minute in range(30, 60):
        past = range(minute - 30, minute)
        known = [90_000 + 60 * (past_minute % 7) for past_minute in past]
        columns = Columns([at(m) for m in past], [1] * 30, known, [*known], [*known])
        answer = newest_uptimes(rows("n1", {minute: looped[minute]}))
        assert frozen_since(answer, {key("n1"): columns}) is not None, minute


@pytest.mark.parametrize("every", [4, 6, 11])
def test_a_machine_that_reboots_again_and_again_repeats_nothing(every):
    first = {minute: 50_000 + 60 * minute for minute in range(every)}
    booted = {minute: 20 + 60 * (minute % every) for minute in range(every, 40)}
    for last in range(1, 40):
        known = {m: uptime for m, uptime in {**first, **booted}.items() if m < last}
        assert frozen_since(newest_uptimes(rows("n1", known))) is None, last


def test_the_mean_of_a_minute_with_a_reboot_is_not_taken_for_an_uptime():
    known = {minute: 30 + 60 * minute for minute in range(10)}
    minutes = rows("n1", known)
    cells: list[Cell | None] = [None] * len(NAMES)
    cells[NAMES.index("uptime_s")] = Cell(4, 630 + 645 + 5 + 20, 5, 645)
    minutes.append(MinuteRow(at(10), key("n1"), tuple(cells)))
    assert frozen_since(newest_uptimes(minutes)) is None


def test_two_machines_of_one_name_that_take_turns_repeat_nothing():
    known = {m: (100_000 if m % 2 else 500_000) + 60 * m for m in range(20)}
    for last in range(1, 20):
        turns = rows("n1", {m: uptime for m, uptime in known.items() if m < last})
        assert frozen_since(newest_uptimes(turns)) is None, last


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.integers(0, 10**6))
def test_a_machine_that_runs_repeats_nothing_however_many_minutes_are_missing(steps, uptime):
    minute, known = 0, {0: uptime}
    for step in steps:
        minute += step
        known[minute] = uptime + 60 * minute
    assert frozen_since(newest_uptimes(rows("n1", known))) is None


def test_the_witness_is_the_node_that_has_run_the_longest():
    both = [*rows("n1", {8: 500}), *rows("n2", {8: 700}), *rows("n3", {7: 900})]
    assert witness(newest_uptimes(both)) == key("n2")
    assert witness(newest_uptimes(rows("n1", {8: None}))) is None
