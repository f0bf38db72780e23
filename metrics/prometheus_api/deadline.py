"""The limits on the duration and the number of concurrent queries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from metrics.prometheus_api.errors import DeadlineError
from opscenter.core.budgets import Slots

LONGEST_SECONDS = 20.0

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
    """The deadline of a query that starts now."""

    def __init__(self, seconds: float = LONGEST_SECONDS) -> None:
        self._seconds = min(seconds, LONGEST_SECONDS)
        self._end = time.monotonic() + self._seconds

    def check(self) -> None:
        """Check that there is time left.

        Raises:
            DeadlineError: there is none.
        """
        if time.monotonic() > self._end:
            msg = f"the query took longer than {self._seconds:g} s; narrow it, or widen its step"
            raise DeadlineError(msg)
