"""The limits on the duration and the number of concurrent queries."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from metrics.prometheus_api.errors import DeadlineError

LONGEST_SECONDS = 20.0
AT_ONCE = 4
"""The number of concurrent queries of one process; further ones wait, so that pages stay
responsive."""

_query_slots = threading.BoundedSemaphore(AT_ONCE)


@contextmanager
def query_slot(wait_seconds: float = LONGEST_SECONDS) -> Iterator[None]:
    """Wait until few enough other queries are running.

    Raises:
        DeadlineError: this takes longer than ``wait_seconds``.
    """
    if not _query_slots.acquire(timeout=wait_seconds):
        raise DeadlineError("too many queries are running; try again in a moment")
    try:
        yield
    finally:
        _query_slots.release()


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
