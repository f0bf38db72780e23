"""The time as the agent sees it; tests replace it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks and a sleep."""

    def time(self) -> float:
        """Return Unix time in seconds; may jump."""

    def monotonic(self) -> float:
        """Return seconds that never go back; stands still while the machine is suspended."""

    async def sleep(self, seconds: float) -> None:
        """Wait, by the monotonic clock."""


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        """Return Unix time in seconds; may jump."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back; stands still while the machine is suspended."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait, by the monotonic clock."""
        await asyncio.sleep(seconds)
