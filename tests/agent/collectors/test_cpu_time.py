"""What counts as CPU time used between two readings."""

from __future__ import annotations

import pytest

from agent.collectors.cpu_time import CpuTime, parse_cpu


def lines(*columns: int, total: str = "") -> list[str]:
    text = " ".join(map(str, columns))
    return [total or f"cpu  {text}", f"cpu0 {text}", "cpu1 0 0 0 0", "intr 5"]


def used(*readings: list[str]) -> tuple[float, float] | None:
    cpu = CpuTime()
    found = None
    for at, reading in enumerate(readings):
        found = cpu.used(parse_cpu(reading), at * 10.0)
    return found


BASE = (1000, 10, 500, 9000, 100, 7, 3, 50)


def grown(**changes: int) -> list[str]:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return lines(*(n + changes.get(name, 0) for name, n in zip(names, BASE, strict=True)))


def test_busy_columns_add_up():
    assert used(lines(*BASE), grown(user=5, system=3, idle=90, iowait=4, steal=2)) == (10, 10)


@pytest.mark.parametrize("column", ["nice", "irq", "softirq", "steal", "idle", "iowait", "user"])
def test_a_column_that_falls_loses_only_itself(column):
    assert used(lines(*BASE), grown(**{"user": 5, "system": 3, column: -2})) == (
        3 if column == "user" else 8,
        10,
    )


def test_counters_that_begin_anew_say_nothing():
    assert used(lines(*BASE), lines(10, 0, 5, 90, 1, 0, 4, 0)) is None
    assert used(lines(*BASE), grown(user=-900, idle=1)) is None  # nothing is left


def test_counters_that_stand_still_are_no_idle_machine():
    assert used(lines(*BASE), lines(*BASE)) is None
    assert used(lines(*BASE), grown(idle=2000)) == (0, 10)


def test_a_total_of_zeros_gives_way_to_the_cpus():
    zeros = "cpu  0 0 0 0"
    assert used(lines(*BASE, total=zeros), lines(*BASE, total=zeros)) is None
    [reading] = [parse_cpu(lines(5, 0, 2, 80, total=zeros))]
    assert reading is not None
    assert (reading.ticks["user"], reading.online) == (5, 2)


def test_zeros_everywhere_are_no_time_but_the_cpus_are_there():
    reading = parse_cpu(["cpu 0 0 0 0", "cpu0 0 0 0 0"])
    assert reading is not None
    assert (dict(reading.ticks), reading.online) == ({}, 1)
    assert used(["cpu 0 0 0 0", "cpu0 0 0 0 0"], ["cpu 0 0 0 0", "cpu0 0 0 0 0"]) is None


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu x y z\ncpu0 1", "cpux 1 2 3 4"])
def test_garbage_is_no_reading(text):
    assert parse_cpu(text.splitlines()) is None
