"""The simulated fleet gives the same numbers for any number and order of requests."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.fleet.answers import SimulatedAgent
from tests.fleet.world import World, walks

BORN = 1_700_000_040
NOW = BORN + 3 * 3600


def agent(**options: int) -> SimulatedAgent:
    return SimulatedAgent(World.make(7, 3, nodes=3), born=BORN, clock=lambda: NOW, **options)


@given(seed=st.integers(0, 3))
@settings(max_examples=examples(4), deadline=None)
def test_a_walk_is_closed_and_bounded(seed: int) -> None:
    for walk in walks(seed):
        assert min(walk) == 0
        assert max(walk) == 1000
        assert walk[0] == walk[-1]


@given(start=st.integers(0, 170), length=st.integers(1, 20))
@settings(max_examples=examples(20), deadline=None)
def test_a_minute_is_the_same_in_every_answer(start: int, length: int) -> None:
    begin = BORN + start * 60
    whole = agent().range(BORN, NOW)["kinds"]["pod"]
    part = agent().range(begin, begin + length * 60)["kinds"]["pod"]
    names = [s["name"] for s in whole["series"]]
    column = whole["fields"]["cpu_mc"]["s"]
    expected = {(t, names[i]): v for t, i, v in zip(whole["t"], whole["i"], column, strict=True)}
    part_names = [s["name"] for s in part["series"]]
    for t, i, v in zip(part["t"], part["i"], part["fields"]["cpu_mc"]["s"], strict=True):
        assert expected[t, part_names[i]] == v


def test_the_open_minute_is_never_answered() -> None:
    answer = agent().range(NOW - 60, NOW + 600)
    assert answer["end"] == NOW // 60 * 60
    assert max(answer["kinds"]["node"]["t"]) < answer["end"]


def test_an_answer_stays_below_the_row_limit_and_says_where_to_go_on() -> None:
    big = SimulatedAgent(World.make(7, 1, nodes=20), born=BORN, clock=lambda: NOW)
    answer = big.range(BORN, NOW)
    assert answer["end"] < NOW // 60 * 60
    assert len(orjson.dumps(answer)) < 4_000_000


def test_minutes_in_which_the_agent_was_silent_have_no_rows() -> None:
    simulated = agent()
    simulated.faults.silent_minutes = {BORN // 60 + 5}
    answer = simulated.range(BORN, BORN + 600)
    assert BORN // 60 * 60 + 300 not in answer["kinds"]["node"]["t"]


def test_a_node_that_is_gone_is_not_ready_and_has_no_values() -> None:
    simulated = agent()
    simulated.faults.nodes_gone = {"node-2"}
    node = simulated.range(BORN, BORN + 60)["kinds"]["node"]
    row = [s["name"] for s in node["series"]].index("node-2")
    at = node["i"].index(row)
    assert node["fields"]["ready"]["s"][at] == 0
    assert node["fields"]["cpu_mc"]["n"][at] is None


def test_pods_change_their_names_with_churn_and_keep_them_without() -> None:
    for churn in (False, True):
        world = World.make(7, 3, nodes=3, churn=churn)
        early = {name for _, name, _ in world.pod_rows(BORN // 60)}
        late = {name for _, name, _ in world.pod_rows(BORN // 60 + 600)}
        assert (early == late) is not churn


@pytest.mark.parametrize("nodes", [3, 20])
def test_every_sum_lies_between_its_extremes(nodes: int) -> None:
    world = World.make(1, 0, nodes=nodes)
    for _, _, cells in world.pod_rows(BORN // 60):
        for n, total, low, high in cells.values():
            assert low * n <= total <= high * n


def test_an_agent_that_is_asked_for_one_kind_gives_no_other():
    whole, part = agent().range(BORN, BORN + 600), agent().range(BORN, BORN + 600, ("node",))
    assert list(part["kinds"]) == ["node"]
    assert part["kinds"]["node"] == whole["kinds"]["node"]
