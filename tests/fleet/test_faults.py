"""The simulator's faults, without a centre."""

from __future__ import annotations

import json

import orjson
import pytest

from metrics.sources.agent.responses import parse_answer
from tests.fleet.answers import BLIND, SimulatedAgent
from tests.fleet.faults import Faults, read_faults
from tests.fleet.hostile import HOSTILE
from tests.fleet.world import World

BORN = 1_800_000_000


def test_faults_that_are_not_named_are_switched_off(tmp_path):
    path = tmp_path / "faults.json"
    path.write_text(json.dumps({"3": {"garbage": "nan", "nodes_gone": ["node-1"]}}))
    faults = Faults(slow_seconds=5)
    faults.set(read_faults(path)[3])
    assert faults == Faults(garbage="nan", nodes_gone={"node-1"})
    faults.set({})
    assert faults == Faults()


def test_a_fault_that_does_not_exist_is_an_error():
    with pytest.raises(KeyError):
        Faults().set({"garbag": "nan"})


def test_hostile_names_are_accepted_and_stay_apart():
    agent = SimulatedAgent(World.make(7, 1, nodes=16), born=BORN, clock=lambda: BORN + 600)
    agent.faults.hostile_names = True
    raw = orjson.loads(orjson.dumps(agent.range(BORN, BORN + 60)))
    answer = parse_answer(raw, BORN, BORN + 60, now=BORN + 600)
    nodes = [info.key.name for info in answer.infos if info.key.kind == "node"]
    assert len(nodes) == 16
    assert HOSTILE[0] in nodes
    assert all(info.key.name.isprintable() for info in answer.infos)


def test_an_agent_that_is_blind_has_no_rows_and_says_why():
    agent = SimulatedAgent(World.make(7, 1, nodes=2), born=BORN, clock=lambda: BORN + 605)
    blind = {BORN // 60 + minute for minute in (3, 4, 10)}
    agent.faults.set({"blind_minutes": list(blind)})
    raw = orjson.loads(orjson.dumps(agent.range(BORN, BORN + 600)))
    answer = parse_answer(raw, BORN, BORN + 600, now=BORN + 605)
    assert answer.collector is not None
    assert (answer.collector.ok, answer.collector.error) == (False, BLIND)
    assert answer.failed == {BORN + 180: BLIND, BORN + 240: BLIND}
    assert not answer.failed.keys() & {row.ts for row in answer.rows}
