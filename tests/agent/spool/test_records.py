"""A minute of the spool is from one stretch of the clock, and a minute without rows says why."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import Stretch
from agent.collectors.base import Collected, CollectorError
from agent.sampler import Sampler
from agent.samples import make_sample
from agent.spool.minutes import Minute
from agent.spool.records import MAX_STEPS, ClockStep, relevant_steps
from agent.spool.spool import Spool, SpoolFile

T0 = 1_800_000_000 // 60 * 60
MB = 2**20
HERE = Stretch("boot", T0)


def open_spool(path: Path, *, max_bytes: int = 64 * MB, max_seconds: int = 7 * 86400) -> SpoolFile:
    return SpoolFile(path, max_bytes=max_bytes, max_seconds=max_seconds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite3"


def node(value: int = 1):
    return make_sample("node", "n1", {"cpu_mc": value})


def counts(spool: SpoolFile) -> dict[int, int]:
    """Return minutes after T0 -> samples of n1."""
    return {(at - T0) // 60: cell[0] for at, cell in cells(spool).items()}


def cells(spool: SpoolFile) -> dict[int, list[int]]:
    """Return minute -> (n, sum, min, max) of n1's cpu_mc."""
    found = {}
    for at, kind, data in spool.minutes(0, 2 * T0, ["node"]):
        [row] = Minute.unpack(kind, data).cells.values()
        found[at] = row[:4]
    return found


def failures(spool: SpoolFile) -> list[tuple[int, int, str]]:
    return [
        ((since - T0) // 60, (until - T0) // 60, error)
        for since, until, error in spool.failures(0, 2 * T0)
    ]


def test_the_reason_for_an_empty_minute_survives_a_restart(path):
    spool = open_spool(path)
    spool.add(T0, [node()], stretch=HERE)
    spool.add(T0 + 60, [], stretch=HERE, error="no way in")
    spool.close()
    spool = open_spool(path)
    spool.add(T0 + 75, [], stretch=HERE, error="no way in")
    spool.add(T0 + 120, [], stretch=HERE, error="no\nway \x1b[31min")
    assert failures(spool) == [(1, 2, "no way in"), (2, 3, "noway [31min")]
    assert (spool.state(T0 + 200).oldest, spool.state(T0 + 200).newest_end) == (T0, T0 + 180)


def test_a_reading_that_succeeds_takes_the_reason_away(path):
    spool = open_spool(path)
    spool.add(T0, [], stretch=HERE, error="no way in")
    spool.add(T0 + 15, [node()], stretch=HERE)
    spool.add(T0 + 30, [], stretch=HERE, error="no way in")
    assert failures(spool) == []
    assert counts(spool) == {0: 1}


def test_a_minute_in_which_only_the_first_reading_succeeded_has_it(path):
    spool = open_spool(path)
    spool.add(T0, [node()], stretch=HERE)
    spool.close()
    spool = open_spool(path)
    spool.add(T0 + 15, [], stretch=HERE, error="no way in")
    assert (failures(spool), counts(spool)) == ([], {0: 1})


def test_reasons_go_with_their_age_like_minutes(path):
    spool = open_spool(path, max_seconds=3600)
    for minute in range(400):
        spool.add(T0 + 60 * minute, [], stretch=HERE, error="no way in")
    assert failures(spool) == [(399 - 60, 400, "no way in")]


def test_a_year_of_reasons_stays_below_the_limit_of_the_file(path):
    spool = open_spool(path, max_bytes=4 * MB, max_seconds=366 * 86400)
    for minute in range(14_000):
        if minute % 60 == 0:
            spool.close()
            spool = open_spool(path, max_bytes=4 * MB, max_seconds=366 * 86400)
        spool._waiting_records[T0 + 60 * minute] = (T0 + 60 * minute, "b", 0.0, 0, "e" * 200)
        if minute % 60 == 59:
            spool.add(T0 + 60 * minute, [], stretch=HERE, error=f"{minute} " + "x" * 300)
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 4 * MB
    assert failures(spool)[-1][1] == 14_000
    assert spool.error == ""


def test_a_file_of_an_older_agent_is_read_as_before_and_goes_on(path):
    spool = open_spool(path)
    for second in (0, 60, 75):
        spool.add(T0 + second, [node(7)])
    spool.close()
    with sqlite3.connect(path) as db:
        for table in ("record", "clock_step", "clock"):
            db.execute(f"DROP TABLE {table}")
    db.close()
    spool = open_spool(path)
    assert counts(spool) == {0: 1, 1: 2}
    assert spool.state(T0 + 200).oldest == T0
    # Its newest minute continues after the upgrade; older ones are from who knows when.
    spool.add(T0 + 90, [node(7)], stretch=HERE)
    spool.add(T0 + 15, [node(9)], stretch=HERE)
    spool.close()
    spool = open_spool(path)
    spool.add(T0 + 30, [node(9)], stretch=HERE)
    assert counts(spool) == {0: 1, 1: 3}
    assert spool.refused == 1
    assert not list(path.parent.glob("*.damaged-*"))


def test_a_restart_within_a_minute_gives_that_minute(path):
    spool = open_spool(path)
    for second in (0, 15):
        spool.add(T0 + second, [node()], stretch=HERE, interval=15)
    spool.close()
    spool = open_spool(path)
    # The new process samples at once, and then on the ticks.
    for second in (22, 30, 45):
        spool.add(T0 + second, [node()], stretch=Stretch("boot", T0 + 0.4), interval=15)
    assert counts(spool) == {0: 4}
    assert spool.clock_steps(0, 2 * T0) == []


def test_a_restart_with_another_clock_is_another_stretch(path):
    spool = open_spool(path)
    for second in (0, 15):
        spool.add(T0 + second, [node(1)], stretch=HERE)
    spool.close()
    spool = open_spool(path)
    for second in (30, 45, 60):
        spool.add(T0 + second, [node(2)], stretch=Stretch("boot", T0 - 600))
    assert cells(spool) == {T0: [2, 2, 1, 1], T0 + 60: [1, 2, 2, 2]}
    assert spool.clock_steps(0, 2 * T0) == [(T0 + 600, T0 + 630, T0 + 30)]


def test_a_reboot_ends_the_minute_and_is_no_step(path):
    spool = open_spool(path)
    spool.add(T0, [node(1)], stretch=HERE)
    spool.add(T0 + 45, [node(2)], stretch=Stretch("another", T0 + 40))
    spool.add(T0 + 60, [node(2)], stretch=Stretch("another", T0 + 40))
    assert cells(spool) == {T0: [1, 1, 1, 1], T0 + 60: [1, 2, 2, 2]}
    assert (spool.refused, spool.clock_steps(0, 2 * T0)) == (1, [])


def test_the_first_one_stays_when_a_clock_goes_forth_and_back(path):
    """The story of an agent 10 min ahead for 4 min, 2 h behind for 2 min, then right."""
    spool = open_spool(path)
    true = T0
    for shift, minutes in ((0, 2), (600, 4), (-7200, 2), (0, 10)):
        for _ in range(4 * minutes):
            at = true + shift
            spool.add(at, [node(true - T0)], stretch=Stretch("boot", T0 + shift), interval=15)
            true += 15
    found = {(at - T0) // 60: cell for at, cell in cells(spool).items()}
    assert {minute: cell[0] for minute, cell in found.items()} == dict.fromkeys(
        [-114, -113, 0, 1, *range(8, 18)], 4
    )
    assert all(cell[3] - cell[2] == 45 for cell in found.values())
    assert spool.refused == 16
    # The first step was undone by the second; what is missing now was left out by the third.
    steps = spool.clock_steps(T0 + 180, T0 + 240)
    assert [((was - T0) // 60, (now - T0) // 60) for _, was, now in steps] == [(-112, 8)]


def test_steps_are_bounded_and_the_newest_stay(path):
    spool = open_spool(path)
    for number in range(MAX_STEPS + 30):
        spool.add(T0 + 100 * number, [node()], stretch=Stretch("boot", T0 + 85 * number))
    spool.close()
    spool = open_spool(path)
    steps = spool.clock_steps(0, 2 * T0)
    assert len(steps) == MAX_STEPS
    assert steps[-1].now == T0 + 100 * (MAX_STEPS + 29)


def test_only_steps_that_explain_something_are_told():
    far = ClockStep(T0, T0 + 10, T0 + 86400)  # for a moment a day ahead
    back = ClockStep(T0 + 86400, T0 + 86400 + 15, T0 + 25)
    steps = [far, back]
    assert relevant_steps(steps, T0, T0 + 60) == steps
    assert relevant_steps(steps, T0 + 600, T0 + 660) == []
    assert relevant_steps(steps, T0 + 86400, T0 + 86460) == steps
    assert relevant_steps([far], T0 + 600, T0 + 660) == [far]
    assert relevant_steps([far], T0 - 60, T0) == []


class World:
    """A machine whose clock is set, which sleeps and is restarted; its agent measures the truth."""

    def __init__(self) -> None:
        self.elapsed = 1000.0
        self.shift = T0 + 0.0
        self.number = 1
        self.fails = False
        self.name = "host"

    @property
    def boot(self) -> str:
        return f"boot{self.number}"

    def time(self) -> float:
        return self.elapsed + self.shift

    def since_boot(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.elapsed += seconds

    async def collect(self, _now: float) -> Collected:
        if self.fails:
            raise CollectorError("no way in")
        return Collected([node(self.number * 10**9 + round(self.elapsed))])

    async def close(self) -> None:
        pass


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("sample"), st.integers(1, 9)),
        st.tuples(st.just("set"), st.integers(-400, 400) | st.sampled_from([-7200, 600, 6600])),
        st.tuples(st.just("sleep"), st.integers(1, 300)),
        st.tuples(st.just("restart"), st.integers(0, 20)),
        st.tuples(st.just("reboot"), st.integers(0, 50)),
        st.tuples(st.just("fail"), st.integers(1, 6)),
    ),
    max_size=25,
)


async def lived(path: Path, events) -> None:
    world = World()
    spool = await Spool.open(path)
    sampler = Sampler(world, spool, world)
    for what, amount in events:
        world.fails = what == "fail"
        if what in ("sample", "fail"):
            for _ in range(amount):
                await sampler.wait_for_tick()
                await sampler.sample()
        elif what == "set":
            world.shift += amount
        elif what == "sleep":
            world.elapsed += amount
        else:
            await spool.close()
            if what == "reboot":
                world.number += 1
                world.shift += world.elapsed
                world.elapsed = 0.0
            world.elapsed += amount
            spool = await Spool.open(path)
            sampler = Sampler(world, spool, world)
            await sampler.sample()
    await spool.close()


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_no_minute_holds_two_times_however_the_clock_jumps(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("spool") / "s.sqlite3"
    asyncio.run(lived(path, events))
    spool = open_spool(path)
    found = cells(spool)
    failed = {at for since, until, _ in spool.failures(0, 2 * T0) for at in range(since, until, 60)}
    spool.close()
    for minute, (n, _, low, high) in found.items():
        assert n <= 4, minute
        assert high - low < 60 + 5, "samples of two times in one minute"
    assert not failed & set(found)
