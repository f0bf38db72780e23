"""Whether the database takes what the hub records: for its heartbeat, so without the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import DatabaseError, IntegrityError, InterfaceError

from opscenter.core.write_checks import WriteCheck, refusal

PATIENCE_SECONDS = 10.0
"""A write that takes longer counts as failing: its database is locked or away."""


class WriteState:
    """When the last write went well, and since when writes fail; ``failures`` counts.

    Used on one event loop.

    Args:
        clock: returns Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.failures = 0
        self._clock = clock
        self._waiting: list[float] = []  # when the writes under way began
        self._proven_at: float | None = None
        self._failing_since: float | None = None
        self._error = ""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note how the write within the block goes; its errors go on to the caller."""
        began = self._clock()
        self._waiting.append(began)
        try:
            yield
        except IntegrityError:
            raise  # the database works: it refused a row of a cluster that is gone
        except (DatabaseError, InterfaceError) as exc:
            self.failures += 1
            self._failing_since = self._failing_since or began
            self._error = refusal(exc)
            raise
        else:
            self._proven_at, self._failing_since, self._error = self._clock(), None, ""
        finally:
            self._waiting.remove(began)

    def check(self) -> WriteCheck:
        """Return how writes go now, also those that are still under way."""
        now = self._clock()
        since, error = self._failing_since, self._error
        oldest = min(self._waiting, default=now)
        if since is None and now - oldest > PATIENCE_SECONDS:
            since, error = oldest, f"a write takes longer than {PATIENCE_SECONDS:g} s"
        return WriteCheck(now, self._proven_at, since, error)
