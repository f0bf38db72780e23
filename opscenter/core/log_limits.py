"""Limits of log lines that others can cause as often as they like.

What is counted is kept by words of our own only: a key with somebody else's words in it would be
new for every line, which is no limit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from opscenter.core.budgets import peer_group


class LogWord(StrEnum):
    """Base of the enumerations whose members may be keys of a log limit: constant words."""


@dataclass
class _Window:
    began: float
    told: Counter[str] = field(default_factory=Counter)  # lines of each source
    held: int = 0


class RateLimitedLog:
    """Admits one line a minute for each reason and source, of 20 sources for each reason.

    What is held back is counted; :meth:`ended` says it once the minute is over. Memory: a number
    for each reason and source. Threads may share it.

    Args:
        seconds: length of a window.
        sources: sources whose lines are admitted for one reason in a window.
        lines: lines of one source for one reason in a window.
        clock: returns seconds that never go back.
    """

    def __init__(
        self,
        *,
        seconds: float = 60,
        sources: int = 20,
        lines: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._sources = sources
        self._lines = lines
        self._turn = threading.Lock()
        self._clock = clock
        self._windows: dict[LogWord, _Window] = {}
        self._over: list[tuple[LogWord, int]] = []

    def admit(self, source: str, reason: LogWord) -> bool:
        """Return whether a line may be written; count it if not.

        Args:
            source: who caused it: an address (IPv6 counts by /64) or the id of a cluster that
                signed in.
            reason: why, as a word of ours.

        Raises:
            TypeError: for a reason that is not a member of a :class:`LogWord`.
        """
        _check(reason)
        group = peer_group(source)[:100]
        with self._turn:
            now = self._clock()
            self._end(now)
            window = self._windows.setdefault(reason, _Window(now))
            is_full = group not in window.told and len(window.told) >= self._sources
            if is_full or window.told[group] >= self._lines:
                window.held += 1
                return False
            window.told[group] += 1
            return True

    def ended(self) -> Iterator[tuple[LogWord, int]]:
        """Yield each reason of which lines were held back in a window that is over, and how many.

        Call it every few seconds: each count is yielded once.
        """
        with self._turn:
            self._end(self._clock())
            over, self._over = self._over, []
        yield from over

    def holds(self) -> bool:
        """Return whether there are lines held back that :meth:`ended` has not said yet."""
        with self._turn:
            return bool(self._over) or any(one.held for one in self._windows.values())

    def tell(self, logger: logging.Logger) -> None:
        """Write one line for each reason of which lines were held back: see :meth:`ended`."""
        for reason, held in self.ended():
            logger.warning("%s: %d times more within a minute, not told one by one", reason, held)

    def _end(self, now: float) -> None:
        for reason, window in list(self._windows.items()):
            if now - window.began >= self._seconds:
                del self._windows[reason]
                if window.held:
                    self._over.append((reason, window.held))


def _check(reason: object) -> None:
    if not isinstance(reason, LogWord):
        msg = f"the key of a log limit must be a LogWord, not {type(reason).__name__}"
        raise TypeError(msg)


class OncePerMinute(logging.Filter):
    """Lets a message of the standard library pass once a minute, then says how often it came.

    For those that come without a pause while something is used up. Cheaper than telling repeated
    lines apart by their text: a record that is held back is never formatted.

    Args:
        beginning: how the message begins.
        seconds: the pause between two that pass.
        clock: returns seconds that never go back.
    """

    def __init__(
        self, beginning: str, seconds: float = 60, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._beginning = beginning
        self._seconds = seconds
        self._clock = clock
        self._last = float("-inf")
        self._held = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged; brief, and with the count of those before."""
        if not isinstance(record.msg, str) or not record.msg.startswith(self._beginning):
            return True
        now = self._clock()
        if now - self._last < self._seconds:
            self._held += 1
            return False
        self._last, held, self._held = now, self._held, 0
        record.exc_info = record.exc_text = None
        more = f" ({held} times more since the last line)" if held else ""
        record.msg, record.args = f"{self._beginning}: no file descriptor is free{more}", ()
        return True
