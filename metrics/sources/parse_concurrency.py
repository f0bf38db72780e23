"""A limit on how many answers one process handles at a time, from JSON to the store.

Reading and writing numbers keeps one core busy, however many threads there are: those are there to
wait for slow clusters. Without the limit, a fleet that comes back all at once is parsed by all
threads at once: every pull is late, and all their rows are in memory together.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Literal, Self

LIVE_AT_ONCE = 3
FILLING_AT_ONCE = 1  # so that filling gaps does not slow down live pulls

_SLOTS = {
    "live": threading.BoundedSemaphore(LIVE_AT_ONCE),
    "filling": threading.BoundedSemaphore(FILLING_AT_ONCE),
}


class ParseSlot:
    """One thread's slot for parsing. A context manager that releases it; acquired on demand.

    Attributes:
        held: whether this thread holds the slot.
        answered_at: ``time.monotonic`` of the last :meth:`acquire`, i.e. when an answer arrived.
    """

    def __init__(self, kind: Literal["live", "filling"]) -> None:
        self._semaphore = _SLOTS[kind]
        self.held = False
        self.answered_at = 0.0

    def acquire(self) -> None:
        """Wait for the slot unless it is held already. Never hold it while a cluster is queried."""
        self.answered_at = time.monotonic()
        if not self.held:
            self._semaphore.acquire()
            self.held = True

    def release(self) -> None:
        """Release the slot; do nothing if it is not held."""
        if self.held:
            self.held = False
            self._semaphore.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
