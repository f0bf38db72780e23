"""Every 15 seconds, aligned to the wall clock: collect, fold into the spool, go on.

Even if a collector raises, hangs or takes longer than the interval, the next sample is taken on
time. A minute in which the collector saw nothing gets no row, but its error: the hub then knows
that the agent ran, and why there is nothing. A minute in which some readings failed has the rows of
the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.clock import Clock, SystemClock, stretch_at
from agent.collectors.base import Collected, Collector, CollectorError
from agent.samples import Sample, clean_name
from agent.spool.spool import Spool

logger = logging.getLogger(__name__)

DEFAULT_INTERVAL_SECONDS = 15
MAX_PROBLEMS = 200
MAX_PROBLEM = 300
_FIRST_READING_SECONDS = 1.0
_REPEATED_TICK_SECONDS = 60.0
"""Seconds; a smaller step back of the clock is waited out, a larger one is accepted."""


@dataclass(slots=True)
class CollectorStatus:
    """How the last collection went; ``last_at`` is the last good one's time, None before it.

    ``problems`` are the parts that it could not read: name of a node or another part -> why; "" is
    the whole.
    """

    ok: bool = False
    error: str = "no sample yet"
    last_at: float | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


class Sampler:
    """Runs one collector for as long as the agent runs.

    Args:
        interval_seconds: seconds between samples; divides 60.
    """

    def __init__(
        self,
        collector: Collector,
        spool: Spool,
        clock: Clock | None = None,
        *,
        interval_seconds: int = DEFAULT_INTERVAL_SECONDS,
    ) -> None:
        self._collector = collector
        self._spool = spool
        self._clock = clock or SystemClock()
        self._interval = interval_seconds
        self._last_tick = 0.0
        self._problems = ""
        self.status = CollectorStatus()

    @property
    def collector_name(self) -> str:
        """The collector's name, for ``/v1/info``."""
        return self._collector.name

    @property
    def interval_seconds(self) -> int:
        """Seconds between two samples."""
        return self._interval

    async def run(self) -> None:
        """Sample now, then at every tick, until cancelled; then close the collector.

        Rates need two readings of a counter. The first is taken a second earlier and discarded, so
        that the first sample, and with it the first minute, has CPU and network use.
        """
        try:
            await self._collect(self._clock.time())
            await self._clock.sleep(_FIRST_READING_SECONDS)
            await self.sample()
            while True:
                await self.wait_for_tick()
                await self.sample()
        finally:
            await self._collector.close()

    async def wait_for_tick(self) -> None:
        """Sleep until the next multiple of the interval on the wall clock.

        If the clock steps back by less than a minute, ticks that were already sampled are not
        sampled again.
        """
        now = self._clock.time()
        tick = (now // self._interval + 1) * self._interval
        if 0 <= self._last_tick - tick < _REPEATED_TICK_SECONDS:
            tick = self._last_tick + self._interval
        # Sleep only briefly: a step of the clock is noticed within an interval.
        while 0 < (left := tick - self._clock.time()) <= _REPEATED_TICK_SECONDS + self._interval:
            await self._clock.sleep(min(left, self._interval))
        self._last_tick = tick

    async def sample(self) -> None:
        """Collect and write one sample. Failures are recorded and logged, never raised."""
        at = self._clock.time()
        stretch = stretch_at(self._clock, at)
        samples = await self._collect(at)
        error = "" if samples else self.status.error
        try:
            await self._spool.add(
                at, samples, stretch=stretch, interval=self._interval, error=error
            )
        except Exception:  # the daemon's outermost loop
            logger.exception("the sample of %.0f could not be written", at)

    async def _collect(self, at: float) -> Sequence[Sample]:
        """Return what the collector saw; [] if nothing, and ``status`` says why."""
        limit = self._interval * 0.9
        try:
            # Ends within the interval, so that collections do not pile up and the last one of a
            # minute is in before the minute is served.
            async with asyncio.timeout(limit):
                collected = await self._collector.collect(at)
        except TimeoutError:
            self._failed(f"took longer than {limit:g} s")
        except CollectorError as exc:
            self._failed(str(exc))
        except Exception as exc:
            logger.exception("collector %s failed", self._collector.name)
            self._failed(f"{type(exc).__name__}: {exc}")
        else:
            if any(sample.kind == "node" for sample in collected.samples):
                return self._succeeded(at, collected)
            self._failed("it saw no node")
        return []

    def _succeeded(self, at: float, collected: Collected) -> Sequence[Sample]:
        if not self.status.ok:
            logger.info("collector %s works", self._collector.name)
        told = "; ".join(collected.problem_texts)
        if told and told != self._problems:
            logger.warning("collector %s: %s", self._collector.name, told)
        self._problems = told
        problems = bounded_problems(collected.problems)
        self.status = CollectorStatus(ok=True, error=told, last_at=at, problems=problems)
        return collected.samples

    def _failed(self, error: str) -> None:
        if self.status.ok or self.status.error != error:
            logger.error("collector %s: %s", self._collector.name, error)
        self.status = CollectorStatus(ok=False, error=error, last_at=self.status.last_at)


def bounded_problems(problems: Mapping[str, str]) -> dict[str, str]:
    """Return at most :data:`MAX_PROBLEMS` problems, cleaned and cut; "" counts the others."""
    named: dict[str, str] = {}
    for part, text in problems.items():
        if len(named) == MAX_PROBLEMS:
            named[""] = f"{len(problems) - MAX_PROBLEMS} more are not listed"
            break
        named.setdefault(clean_name(part), clean_name(text, limit=MAX_PROBLEM))
    return named
