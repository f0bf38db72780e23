"""The time as the agent sees it; tests replace it.

Two clocks: the machine's wall clock, which anybody may set, and the seconds since its start, which
nobody can. As long as their difference stays the same, times of the wall clock are comparable.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

MAX_STEP_SECONDS = 5.0
"""A wall clock that moves by more than this against the seconds since the start was set."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT_ID_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time in which the wall clock was not set.

    Attributes:
        boot: id of the machine's start.
        shift: the wall clock minus the seconds since the start.
    """

    boot: str
    shift: float

    def continues(self, earlier: Stretch) -> bool:
        """Return whether both are one stretch, so that their times are comparable."""
        return self.boot == earlier.boot and abs(self.shift - earlier.shift) <= MAX_STEP_SECONDS


class Clock(Protocol):
    """Two clocks and a sleep."""

    boot: str
    """Id of the machine's start, or of this process where that is not known."""

    def time(self) -> float:
        """Return Unix time in seconds; may jump."""

    def since_boot(self) -> float:
        """Return seconds that never go back; they go on while the machine is suspended."""

    async def sleep(self, seconds: float) -> None:
        """Wait; not by the wall clock."""


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self.boot = _boot_id()

    def time(self) -> float:
        """Return Unix time in seconds; may jump."""
        return time.time()

    def since_boot(self) -> float:
        """Return seconds that never go back; they go on while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Wait; not by the wall clock."""
        await asyncio.sleep(seconds)


def stretch_at(clock: Clock, at: float) -> Stretch:
    """Return the stretch in which the wall clock says ``at``, now."""
    return Stretch(clock.boot, at - clock.since_boot())


def _boot_id() -> str:
    try:
        text = _BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")
    except (OSError, UnicodeDecodeError):
        text = ""
    return text[:_BOOT_ID_LENGTH] or uuid4().hex[:_BOOT_ID_LENGTH]
