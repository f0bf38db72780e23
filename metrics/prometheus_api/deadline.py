"""How long a query may take."""

from __future__ import annotations

import time

from metrics.prometheus_api.errors import DeadlineError

LONGEST_SECONDS = 20.0


class Deadline:
    """The end of a query's time, from now on."""

    def __init__(self, seconds: float = LONGEST_SECONDS) -> None:
        self._seconds = min(seconds, LONGEST_SECONDS)
        self._end = time.monotonic() + self._seconds

    def check(self) -> None:
        """Go on, if there is time left.

        Raises:
            DeadlineError: there is none.
        """
        if time.monotonic() > self._end:
            msg = f"the query took longer than {self._seconds:g} s; narrow it, or widen its step"
            raise DeadlineError(msg)
