"""How the wall clock moved: the stretch of the newest reading, and the steps between stretches."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agent.clock import Stretch
from agent.spool.records import MAX_STEPS, ClockStep

logger = logging.getLogger(__name__)

_KEPT_SHIFT_SECONDS = 1.0  # a smaller change of the clock's shift is not worth a write


class ClockHistory:
    """The steps of the clock, and which of them the disk does not have yet.

    Args:
        stretch: the stretch of the newest reading on disk; None if it is not known.
        steps: the steps on disk, in the order in which they were seen.
    """

    def __init__(self, stretch: Stretch | None, steps: Sequence[ClockStep]) -> None:
        self._stretch = self._kept = stretch
        self.steps = list(steps)
        self.waiting: list[ClockStep] = []

    def notice(self, at: float, stretch: Stretch) -> None:
        """Note a step of the clock since the last reading, also since one before a restart."""
        last, self._stretch = self._stretch, stretch
        if last is None or last.boot != stretch.boot or stretch.continues(last):
            return
        was = max(0.0, at - stretch.shift + last.shift)
        step = ClockStep(int(was // 60) * 60, was, at)
        logger.warning("the clock was set by %+.1f s, from %.0f to %.0f", at - was, was, at)
        self.waiting.append(step)
        self.steps = [*self.steps, step][-MAX_STEPS:]

    def moved(self) -> Stretch | None:
        """Return the stretch to write; None if the disk has it already."""
        last, kept = self._stretch, self._kept
        if last is None or kept is None:
            return last
        close = abs(last.shift - kept.shift) <= _KEPT_SHIFT_SECONDS
        return None if last.boot == kept.boot and close else last

    def written(self) -> None:
        """Note that the disk has everything."""
        self._kept = self.moved() or self._kept
        self.waiting.clear()

    def all_changed(self) -> None:
        """Note that the disk has nothing: it is a new file."""
        self._kept = None
        self.waiting = list(self.steps)
