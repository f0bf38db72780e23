"""What every collector offers, and the arithmetic of counters that all of them share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from agent.samples import Sample

RATE_MAX_SECONDS = 120.0
"""Seconds; two readings further apart say nothing about "now": the machine or the agent stood
still."""

T = TypeVar("T")


class CollectorError(Exception):
    """Nothing could be collected; the message tells people why."""


@dataclass(frozen=True, slots=True)
class Collected:
    """One reading of everything.

    Attributes:
        samples: nodes, filesystems and pods; at least one node.
        problems: what could not be read: node or part of the machine -> why, in words; the rest is
            valid.
    """

    samples: Sequence[Sample]
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def problem_texts(self) -> list[str]:
        """Return each problem as one line."""
        return [f"{part}: {text}" for part, text in self.problems.items()]


class Collector(Protocol):
    """Reads one kind of machine."""

    name: str
    """``host`` or ``kubelet``, as in ``/v1/info``."""

    async def collect(self, now: float) -> Collected:
        """Return one reading, taken at Unix time ``now``.

        Raises:
            CollectorError: if nothing could be read.
        """

    async def close(self) -> None:
        """Release sockets and threads."""


class Rates:
    """Per-second rates of counters, from two readings of each.

    A rate is None at a counter's first reading, after a reset (the counter went back), after more
    than :data:`RATE_MAX_SECONDS`, and if the clock did not move: never a spike.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[float, float]] = {}

    def rate(self, key: Hashable, value: float | None, at: float) -> float | None:
        """Return the rate since the last reading of ``key`` and remember this one.

        ``value`` None (not readable now) keeps the last reading. ``at`` is in seconds, by the clock
        of the counter's reader.
        """
        if value is None:
            return None
        last = self._last.get(key)
        self._last[key] = (value, at)
        if last is None:
            return None
        seconds = at - last[1]
        if value < last[0] or not 0 < seconds <= RATE_MAX_SECONDS:
            return None
        return (value - last[0]) / seconds

    def seen(self, key: Hashable) -> bool:
        """Return whether the counter was read before."""
        return key in self._last

    def keep_only(self, keys: Iterable[Hashable]) -> None:
        """Forget counters that are gone, so that one that comes back starts anew."""
        for key in self._last.keys() - set(keys):
            del self._last[key]


class DaemonCall(Generic[T]):
    """Runs one blocking call at a time in a daemon thread.

    A call that hangs (a dead NFS server, a process in uninterruptible sleep) then holds back
    neither the event loop nor the end of the process, and no second call waits behind it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy = False

    @property
    def busy(self) -> bool:
        """Return whether the last call still runs."""
        return self._busy

    async def run(self, function: Callable[[], T], *, timeout: float) -> T:
        """Return the function's result, or raise its exception.

        Raises:
            TimeoutError: it takes longer than ``timeout`` seconds; the thread goes on.
            CollectorError: the last call has still not returned.
        """
        if self._busy:
            msg = f"{self._name}: the last reading has still not returned"
            raise CollectorError(msg)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                result = function()
            except BaseException as exc:  # noqa: BLE001 - handed to the caller
                error = exc
            self._busy = False
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, error)

        self._busy = True
        threading.Thread(target=work, name=self._name, daemon=True).start()
        async with asyncio.timeout(timeout):
            return await future
