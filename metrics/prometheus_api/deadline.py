"""The limits on the duration and the number of concurrent queries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metrics.prometheus_api.errors import DeadlineError
from opscenter.core.budgets import Slots

LONGEST_SECONDS = 20.0
QUICK_SECONDS = 1.0
_LONGEST_PAUSE = 0.1  # seconds

QUERIES = Slots(
    "queries", "queries of Prometheus' API", total=4, user=2, waiting=96, waiting_each=48
)
"""At once in this process, so that pages stay responsive. A dashboard asks for all its panels
together, so many may wait."""


@contextmanager
def query_slot(user: int, wait_seconds: float = LONGEST_SECONDS) -> Iterator[None]:
    """Wait in turn until few enough other queries are running.

    Raises:
        BudgetError: this takes longer than ``wait_seconds``, or too many wait already.
    """
    with QUERIES.hold(wait_seconds=wait_seconds, user=user):
        yield


class Deadline:
    """The deadline of a query that starts now, and its pace.

    A query that takes longer than :data:`QUICK_SECONDS` works half of the time from then on: its
    arithmetic holds the interpreter, which pages and short queries need too.
    """

    def __init__(
        self,
        seconds: float = LONGEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = min(seconds, LONGEST_SECONDS)
        self._clock, self._sleep = clock, sleep
        self._start = self._last = clock()

    def check(self) -> None:
        """Check that there is time left; called after each few milliseconds of work.

        Raises:
            DeadlineError: there is none.
        """
        now = self._clock()
        if now > self._start + self._seconds:
            msg = f"the query took longer than {self._seconds:g} s; narrow it, or widen its step"
            raise DeadlineError(msg)
        if now > self._start + QUICK_SECONDS:
            self._sleep(min(now - self._last, _LONGEST_PAUSE))
            now = self._clock()
        self._last = now
