"""Inputs seen on real machines, each a file that says what goes in and what must come out.

A file's ``input`` is what differs from a quiet machine: files of ``/proc`` and of the cgroup tree,
statvfs in GiB, and ``steps`` that change them at a second.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.catalog import FIELDS
from tests.agent.machine import GIB, FakeMachine, disk

FILES = sorted((Path(__file__).parent / "field" / "host").glob("*.json"))
BLOCKS = GIB // 4096


def space(*, size: int, used: int, available: int):
    return disk(blocks=size * BLOCKS, free=(size - used) * BLOCKS, available=available * BLOCKS)


def apply(machine: FakeMachine, state: dict) -> None:
    for name, text in state.get("proc", {}).items():
        machine.write(name, text)
    for name, text in state.get("cgroup", {}).items():
        path = machine.cgroup / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for point, numbers in state.get("statvfs", {}).items():
        machine.disks[point] = space(**numbers)


def holds(check: dict, value: int | None) -> bool:
    if check.get("none"):
        return value is None
    if value is None:
        return bool(check.get("or_none"))
    low, high = check.get("between") or (check["equals"], check["equals"])
    return low <= value <= high


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
async def test_what_machines_were_seen_to_report_gives_the_right_values(machine, path):
    case = json.loads(path.read_text(encoding="utf-8"))
    machine.disks["/"] = space(size=100, used=40, available=60)
    apply(machine, case["input"])
    collector = machine.collector()
    start = machine.now
    for step in case["input"].get("steps", [{"at": 0}]):
        machine.now = start + step["at"]
        apply(machine, step)
        collected = await collector.collect(0)
    for check in case["checks"]:
        place = (check["kind"], check.get("ns", ""))
        found = [s for s in collected.samples if (s.kind, s.ns) == place]
        if "sum" in check:
            at = FIELDS[check["kind"]].index(check["sum"])
            assert holds(check, sum(s.values[at] or 0 for s in found)), check
            continue
        [sample] = [s for s in found if s.name == check["name"]]
        if "field" in check:
            value = sample.values[FIELDS[check["kind"]].index(check["field"])]
            assert holds(check, value), (check, value)
