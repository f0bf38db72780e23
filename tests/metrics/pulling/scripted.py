"""A source whose past, forgetting and lateness a test sets: raw minutes, then wider values.

Values stay the same within an hour, so that a mean over any part of it is known exactly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, CoarseRow, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.base import Resolution
from metrics.sources.kinds import KINDS
from opscenter.core.errors import ServiceUnavailableError

MINUTE = 60
DAY = 86_400
NODES = ("n1", "n2")
PODS = (("default", "web-1"),)
GRAVITY = (
    Resolution(60, DAY, "1m"),
    Resolution(300, 28 * DAY, "10m"),
    Resolution(3600, 364 * DAY, "1h"),
)


def value(name: str, moment: int) -> int:
    """Return what a series measures in the hour of a moment."""
    return 1000 + sum(name.encode()) + moment // 3600 % 97


@dataclass
class ScriptedSource:
    """Answers from its script; see :class:`metrics.sources.base.HttpSource`."""

    overlap_seconds: ClassVar[int] = 60
    settle_seconds: ClassVar[int] = 90
    longest_request_seconds: ClassVar[int] = 6 * 3600

    born: int = 0
    resolutions: Sequence[Resolution] = GRAVITY
    down: Callable[[int], bool] = lambda _minute: False  # whether nothing was recorded in it
    late: dict[tuple[str, int], float] = field(default_factory=dict)  # (series, minute) -> arrival
    unready: Callable[[str, int], bool] | None = None  # of a node in a minute; None: not said
    error: Exception | None = None
    most: int = 6 * 3600  # seconds that one answer holds
    skew_seconds: float = 0.0
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def fetch(self, client: Any, start: int, end: int, *, now: float, slot: Any):
        """Return minutes, or wider values up to where minutes begin."""
        del client
        self.asked.append((start, end))
        slot.acquire()
        if self.error is not None:
            raise self.error
        if end - start > self.most:
            raise ServiceUnavailableError("influxdb of x: no complete answer within 30 s")
        for resolution in self.resolutions:
            begins = self._begins(resolution, now)
            if start >= begins or resolution is self.resolutions[-1]:
                break
        finer = self.resolutions[max(0, self.resolutions.index(resolution) - 1)]
        width = TIERS[resolution.tier]
        if resolution.step == 60:
            return self._minutes(start, min(end, int(now - self.settle_seconds) // 60 * 60), now)
        border = self._begins(finer, now)
        return self._coarse(start, min(end, border + -border % width), resolution, now)

    def _begins(self, resolution: Resolution, now: float) -> int:
        assert resolution.reach is not None
        begins = int(now - resolution.reach) // resolution.step * resolution.step + resolution.step
        return max(begins, self.born - self.born % resolution.step)

    def _has(self, name: str, minute: int, now: float) -> bool:
        arrives = self.late.get((name, minute), minute + MINUTE)
        return minute >= self.born and not self.down(minute) and arrives <= now

    def _answer(self, start: int, end: int, now: float, **more: Any) -> SourceAnswer:
        oldest = self._begins(self.resolutions[-1], now)
        series = [("node", "", name) for name in NODES] + [("pod", *pod) for pod in PODS]
        return SourceAnswer(
            **{
                "rows": (), "infos": [SeriesInfo(SeriesKey(*key)) for key in series],
                "start": start, "end": max(start, end), "oldest": max(oldest, self.born),
                "newest_end": int(now) // 60 * 60, "now": now + self.skew_seconds,
                "agent_version": "", "kind": "kubernetes", **more,
            }
        )  # fmt: skip

    def _minutes(self, start: int, end: int, now: float) -> SourceAnswer:
        kept = range(max(start, self._begins(self.resolutions[0], now)), end, MINUTE)
        rows = [
            MinuteRow(minute, SeriesKey(kind, ns, name), self._cells(kind, name, minute))
            for minute in kept
            for kind, ns, name in _series()
            if self._has(name, minute, now)
        ]
        alive = frozenset(row.ts for row in rows if row.key.kind == "node")
        return self._answer(start, end, now, rows=rows, minutes_alive=alive)

    def _cells(self, kind: str, name: str, minute: int) -> tuple[Cell | None, ...]:
        measured = cells(kind, value(name, minute), 1)
        if kind != "node" or self.unready is None:
            return measured
        ready = int(not self.unready(name, minute))
        at = FIELD_NAMES[kind].index("ready")
        return (*measured[:at], Cell(1, ready, ready, ready), *measured[at + 1 :])

    def _coarse(self, start: int, end: int, resolution: Resolution, now: float) -> SourceAnswer:
        width, begins = TIERS[resolution.tier], self._begins(resolution, now)
        parts: dict[tuple[int, tuple[str, str, str]], int] = {}
        alive = set()
        for step in range(start - start % width, end, resolution.step):
            minutes = range(step, step + resolution.step, MINUTE)
            if step < begins or all(self.down(m) or m < self.born for m in minutes):
                continue
            alive |= {m for m in minutes if start <= m < end}
            for key in _series():
                bucket = (step - step % width, key)
                parts[bucket] = parts.get(bucket, 0) + resolution.step // MINUTE
        rows = [
            CoarseRow(resolution.tier, ts, SeriesKey(*key), cells(key[0], value(key[2], ts), n))
            for (ts, key), n in sorted(parts.items())
        ]
        return self._answer(
            start, end, now, coarse=rows, minutes_alive=frozenset(alive),
            resolution=resolution.step,
        )  # fmt: skip


def cells(kind: str, number: int, n: int) -> tuple[Cell | None, ...]:
    """Return the cells of a row that has CPU and memory."""
    low = number if n == 1 else None
    return tuple(
        Cell(n, n * number, low, number) if name in ("cpu_mc", "mem_ws") else None
        for name in FIELD_NAMES[kind]
    )


def _series() -> list[tuple[str, str, str]]:
    return [("node", "", name) for name in NODES] + [("pod", *pod) for pod in PODS]


def answer_as(monkeypatch: pytest.MonkeyPatch, kind: str, source: Any) -> None:
    """Let a source answer for every cluster whose source is of that kind."""
    scripted = replace(KINDS[kind], adapter=lambda _settings, _limits: source)
    monkeypatch.setitem(KINDS, kind, scripted)


@contextlib.asynccontextmanager
async def nowhere(cluster: Any):
    """Connect to nothing: the script needs no client."""
    del cluster
    yield None
