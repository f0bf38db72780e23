"""What the spool knows of a minute beside its values, and the steps of the clock. Pure.

A minute holds samples of one stretch of time only. The first stretch that records anything in it
keeps it: what comes later under the same name, from a clock that was set back, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.clock import Stretch

MAX_ERROR = 200
"""Longest stored error of a collector, in characters."""
MAX_STEPS = 1_000
"""Steps of the clock that are kept, the newest ones."""

UNKNOWN = Stretch("?", 0.0)
"""The stretch of a minute that takes nothing more: an agent of before wrote it, who knows when."""

RecordRow = tuple[int, str, float, int, str]
"""``start, boot, shift, seconds, error``, as in the spool's table; boot "" = not known."""


class ClockStep(NamedTuple):
    """The wall clock was set from one time to another, in Unix seconds."""

    minute: int
    """The minute that the step ended, by the clock before it."""
    was: float
    now: float


@dataclass(slots=True)
class MinuteRecord:
    """One minute's stretch, and how its readings went.

    Attributes:
        start: start of the minute in Unix seconds.
        stretch: the stretch that its samples are from; None if that is not known (yet).
        seconds: one bit for each second in which a sample was taken.
        error: why nothing was seen in it so far; "" if something was.
    """

    start: int
    stretch: Stretch | None = None
    seconds: int = 0
    error: str = ""

    def takes(self, stretch: Stretch | None) -> bool:
        """Return whether readings of a stretch belong into this minute; it then is theirs."""
        if stretch is None:
            return True
        if self.stretch is None:
            self.stretch = stretch
        return stretch.continues(self.stretch)

    def is_earlier(self, stretch: Stretch) -> bool:
        """Return whether the minute is known to be of another stretch than this one."""
        return self.stretch is not None and not stretch.continues(self.stretch)

    def is_first(self, at: float, interval: int) -> bool:
        """Return whether a sample is the first one in its interval, and note it.

        After a restart the same interval may be sampled twice. ``interval`` is in seconds; 0
        allows any number.
        """
        second = int(at % 60)
        if interval:
            begin = second - second % interval
            if self.seconds >> begin & ((1 << interval) - 1):
                return False
        self.seconds |= 1 << second
        return True

    def as_row(self) -> RecordRow:
        """Return the record as a row."""
        boot, shift = (self.stretch.boot, self.stretch.shift) if self.stretch else ("", 0.0)
        return self.start, boot, shift, self.seconds, self.error

    @classmethod
    def from_row(cls, row: RecordRow) -> MinuteRecord:
        """Return the record of a row."""
        start, boot, shift, seconds, error = row
        return cls(start, Stretch(boot, shift) if boot else None, seconds, error)


def relevant_steps(steps: Sequence[ClockStep], start: int, end: int) -> list[ClockStep]:
    """Return the steps that explain something about ``[start, end)``, in their own order.

    These are the steps from or to a time within it, and those forward that left out a part of it.
    A step back ends what a step forward before it left out, and is returned with that.
    """
    found = set()
    left_out: list[tuple[int, float, float]] = []
    for at, step in enumerate(steps):
        if any(start <= time < end for time in (step.minute, step.was, step.now)):
            found.add(at)
        if step.now > step.was:
            left_out.append((at, step.was, step.now))
        else:
            left_out = [(n, was, min(now, step.now)) for n, was, now in left_out]
    found |= {at for at, was, now in left_out if was < min(now, end) and now > start}
    first = {at for at in found if steps[at].now > steps[at].was}
    for at, step in enumerate(steps):
        if any(forward < at and step.now < steps[forward].now for forward in first):
            found.add(at)
    return [steps[at] for at in sorted(found)]


def joined_failures(failed: Iterable[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Return minutes (start, error), ascending, as ranges (start, end, error) of equal errors."""
    ranges: list[tuple[int, int, str]] = []
    for start, error in failed:
        if ranges and ranges[-1][1:] == (start, error):
            ranges[-1] = (ranges[-1][0], start + 60, error)
        else:
            ranges.append((start, start + 60, error))
    return ranges


def joined_minutes(starts: Iterable[int]) -> list[tuple[int, int]]:
    """Return minutes, ascending, as ranges (start, end)."""
    return [(start, end) for start, end, _ in joined_failures((start, "") for start in starts)]
