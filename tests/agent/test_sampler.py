import asyncio
import logging
from pathlib import Path

import pytest

from agent.collectors.base import Collected, CollectorError
from agent.sampler import Sampler, bounded_problems
from agent.samples import make_sample
from agent.spool.minutes import Minute
from agent.spool.spool import Spool

T0 = 1_800_000_000 // 60 * 60


class FakeClock:
    """A wall clock that moves only when someone sleeps, and can be set."""

    boot = "b00t"

    def __init__(self, at: float) -> None:
        self.at = at
        self.slept = 0.0
        self.on_sleep = lambda: None

    def time(self) -> float:
        return self.at

    def since_boot(self) -> float:
        return self.slept

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.slept += seconds
        self.on_sleep()
        await asyncio.sleep(0)


class Collector:
    """Counts its calls; ``behaviour`` may raise or wait."""

    name = "host"

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.called = asyncio.Event()
        self.closed = False
        self.behaviour = None
        self.found = None

    async def collect(self, now: float) -> Collected:
        self.calls.append(now)
        self.called.set()
        if self.behaviour is not None:
            await self.behaviour()
        if self.found is not None:
            return Collected(self.found)
        return Collected([make_sample("node", "n1", {"cpu_mc": len(self.calls)})])

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
async def spool(tmp_path: Path):
    spool = await Spool.open(tmp_path / "spool.sqlite3")
    yield spool
    await spool.close()


async def counts(spool: Spool) -> dict[int, int]:
    """Return minute -> samples with a value in it."""
    rows = await spool.call(lambda file: list(file.minutes(T0 - 86400, T0 + 86400, ["node"])))
    minutes = {at: Minute.unpack(kind, data) for at, kind, data in rows}
    return {at: next(iter(m.cells.values()))[0] for at, m in minutes.items()}


async def failures(spool: Spool) -> list[tuple[int, int, str]]:
    return await spool.call(lambda file: file.failures(T0 - 86400, T0 + 86400))


async def steps(spool: Spool) -> list[tuple[int, float, float]]:
    return await spool.call(lambda file: file.clock_steps(T0 - 86400, T0 + 86400))


async def ticks(sampler: Sampler, number: int) -> None:
    for _ in range(number):
        await sampler.wait_for_tick()
        await sampler.sample()


async def test_samples_fall_on_multiples_of_the_interval(spool):
    clock, collector = FakeClock(T0 + 3.7), Collector()
    await ticks(Sampler(collector, spool, clock), 8)
    assert collector.calls == [T0 + 15 * n for n in range(1, 9)]
    assert await counts(spool) == {T0: 3, T0 + 60: 4, T0 + 120: 1}


async def test_a_small_step_back_samples_no_tick_twice(spool):
    clock, collector = FakeClock(T0), Collector()
    sampler = Sampler(collector, spool, clock)
    await ticks(sampler, 4)
    clock.at -= 0.4
    await ticks(sampler, 1)
    clock.at -= 20
    await ticks(sampler, 2)
    assert collector.calls == [T0 + 15 * n for n in range(1, 8)]


async def test_a_large_step_back_goes_on_at_once_and_doubles_no_minute(spool):
    clock, collector = FakeClock(T0), Collector()
    sampler = Sampler(collector, spool, clock)
    await ticks(sampler, 12)
    clock.at -= 3600
    await ticks(sampler, 4)
    assert collector.calls[12:] == [T0 + 180 - 3600 + 15 * n for n in range(1, 5)]
    found = await counts(spool)
    assert sorted(found) == [T0 - 3420, T0 - 3360, T0, T0 + 60, T0 + 120, T0 + 180]
    assert await steps(spool) == [(T0 + 180, T0 + 195, T0 - 3405)]


async def test_a_step_forward_leaves_a_gap_and_goes_on(spool):
    clock, collector = FakeClock(T0), Collector()
    sampler = Sampler(collector, spool, clock)
    await ticks(sampler, 4)
    clock.on_sleep = lambda: setattr(clock, "at", clock.at + 1800)
    await sampler.wait_for_tick()
    clock.on_sleep = lambda: None
    await sampler.sample()
    await ticks(sampler, 1)
    assert collector.calls[-2:] == [T0 + 75 + 1800, T0 + 90 + 1800]
    assert await steps(spool) == [(T0 + 60, T0 + 75, T0 + 1875)]


async def test_a_suspended_machine_is_no_step_of_the_clock(spool):
    clock, collector = FakeClock(T0), Collector()
    sampler = Sampler(collector, spool, clock)
    await ticks(sampler, 4)
    clock.at += 1800
    clock.slept += 1800
    await ticks(sampler, 1)
    assert await steps(spool) == []
    assert await counts(spool) == {T0: 3, T0 + 60: 1, T0 + 1860: 1}


async def test_a_step_back_while_asleep_is_noticed(spool):
    clock, collector = FakeClock(T0), Collector()
    sampler = Sampler(collector, spool, clock)
    await ticks(sampler, 2)
    steps = iter([-7200.0])
    clock.on_sleep = lambda: setattr(clock, "at", clock.at + next(steps, 0))
    await ticks(sampler, 2)
    assert clock.slept < 90


async def test_a_collector_that_raises_is_recorded_and_the_next_sample_goes_on(spool, caplog):
    clock, collector = FakeClock(T0), Collector()
    sampler = Sampler(collector, spool, clock)
    await ticks(sampler, 1)

    async def fail():
        raise CollectorError("no way in")

    collector.behaviour = fail
    with caplog.at_level(logging.INFO):
        await ticks(sampler, 8)
    assert (sampler.status.ok, sampler.status.error) == (False, "no way in")
    assert sampler.status.last_at == T0 + 15
    assert caplog.text.count("no way in") == 1
    collector.behaviour = None
    await ticks(sampler, 1)
    assert sampler.status.ok
    # A minute in which nothing was seen has no row, but the reason.
    assert await counts(spool) == {T0: 1, T0 + 120: 1}
    assert await failures(spool) == [(T0 + 60, T0 + 120, "no way in")]


async def test_a_defect_in_a_collector_does_not_stop_the_agent(spool):
    clock, collector = FakeClock(T0), Collector()
    sampler = Sampler(collector, spool, clock)

    async def fail():
        raise ZeroDivisionError("oh")

    collector.behaviour = fail
    await ticks(sampler, 2)
    assert sampler.status.error == "ZeroDivisionError: oh"
    assert await counts(spool) == {}
    assert await failures(spool) == [(T0, T0 + 60, "ZeroDivisionError: oh")]


async def test_a_reading_without_a_node_is_no_reading(spool):
    clock, collector = FakeClock(T0), Collector()
    collector.found = []
    sampler = Sampler(collector, spool, clock)
    await ticks(sampler, 2)
    assert (sampler.status.ok, sampler.status.error) == (False, "it saw no node")
    assert await failures(spool) == [(T0, T0 + 60, "it saw no node")]


async def test_a_minute_in_which_some_readings_failed_has_the_others(spool):
    clock, collector = FakeClock(T0 - 1), Collector()
    sampler = Sampler(collector, spool, clock)

    async def fail():
        raise CollectorError("no way in")

    for failing in (True, False, True, False):
        collector.behaviour = fail if failing else None
        await ticks(sampler, 1)
    assert await counts(spool) == {T0: 2}
    assert await failures(spool) == []


async def test_a_collection_that_hangs_is_cut_before_the_next_tick(spool):
    collector = Collector()
    sampler = Sampler(collector, spool, FakeClock(T0), interval_seconds=2)

    async def hang():
        await asyncio.sleep(60)

    collector.behaviour = hang
    async with asyncio.timeout(10):
        await ticks(sampler, 2)
    assert sampler.status.error == "took longer than 1.8 s"
    assert len(collector.calls) == 2


async def test_run_samples_at_once_and_closes_the_collector_at_the_end(spool):
    collector = Collector()
    task = asyncio.create_task(Sampler(collector, spool).run())
    await collector.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert collector.closed


async def test_the_first_reading_is_discarded_but_gives_the_first_sample_its_rates(spool):
    clock, collector, third = FakeClock(T0 + 3), Collector(), asyncio.Event()

    async def stop_at_the_third() -> None:
        if len(collector.calls) == 3:
            third.set()
            await asyncio.Event().wait()

    collector.behaviour = stop_at_the_third
    running = asyncio.create_task(Sampler(collector, spool, clock).run())
    await third.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert collector.calls == [T0 + 3, T0 + 4, T0 + 15]
    assert await counts(spool) == {T0: 1}


def test_problems_of_a_thousand_nodes_are_bounded():
    found = bounded_problems({f"n{n}": "x\n" * 1000 for n in range(1000)})
    assert len(found) == 201
    assert found[""] == "800 more are not listed"
    assert found["n0"] == "x" * 300
