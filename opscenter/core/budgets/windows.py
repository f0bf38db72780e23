"""The sliding window of a rate: two counts and how far the time has gone. Pure.

The count of the former window fades while the present one fills: at most ``limit`` events fall
into any span of a window's length, if those of the former window came evenly. This is the
"sliding window counter" of Cloudflare and of the ``limits`` library; it needs two numbers a holder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Count:
    """What one holder has used, and what was decided about one more event.

    Attributes:
        outcome: "counted", "refused", or "full" where no further holder can be counted.
        before: events of the former window.
        current: events of the present window, this one included if it was counted.
        passed: which part of the present window has passed, 0..1.
    """

    outcome: Literal["counted", "refused", "full"]
    before: int
    current: int
    passed: float

    @property
    def used(self) -> float:
        """Return how much of the limit is used: a part of the former window still counts."""
        return self.before * (1.0 - self.passed) + self.current

    def wait_seconds(self, limit: int, cost: int, seconds: float) -> float:
        """Return the seconds until ``cost`` more fit, if nothing else comes; 0 if they fit now.

        Args:
            limit: events in a window; at least ``cost``.
            cost: events that are asked for.
            seconds: length of a window.
        """
        room = limit - cost
        if self.used <= room:
            return 0.0
        if self.current <= room:  # the former window has to fade
            return seconds * (1.0 - (room - self.current) / self.before - self.passed)
        return seconds * (1.0 - self.passed) + seconds * (1.0 - room / self.current)


def position(now: float, seconds: float) -> tuple[int, float]:
    """Return the number of the window at ``now``, and which part of it has passed, 0..1."""
    number, rest = divmod(now, seconds)
    return int(number), rest / seconds


class Windows:
    """The counts of the present and the former window, by holder. Bounded; not locked."""

    def __init__(self, max_holders: int) -> None:
        self._max_holders = max_holders
        self._number = 0
        self._current: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def take(self, holder: str, number: int, passed: float, *, limit: int, cost: int) -> Count:
        """Count ``cost`` events of a holder in window ``number`` unless that is over ``limit``."""
        self._turn_to(number)
        count = self._count("counted", holder, passed)
        if count.used + cost > limit:
            return self._count("refused", holder, passed)
        if cost and holder not in self._current and len(self._current) >= self._max_holders:
            return self._count("full", holder, passed)
        self.add(holder, number, cost)
        return self._count("counted", holder, passed)

    def add(self, holder: str, number: int, cost: int) -> None:
        """Add ``cost``, or take it back where it is negative; never below 0."""
        self._turn_to(number)
        left = self._current.get(holder, 0) + cost
        if left > 0:
            self._current[holder] = left
        else:
            self._current.pop(holder, None)

    def _count(
        self, outcome: Literal["counted", "refused", "full"], holder: str, passed: float
    ) -> Count:
        return Count(outcome, self._before.get(holder, 0), self._current.get(holder, 0), passed)

    def _turn_to(self, number: int) -> None:
        """Make ``number`` the present window; what is older than the former one is dropped."""
        if number == self._number:
            return
        self._before = self._current if number == self._number + 1 else {}
        self._current = {}
        self._number = number
