"""How many answers one process works through at a time, from JSON to the store.

Reading numbers and writing them is work for one core, whatever the number of threads: those are
there to wait for slow clusters. Without turns, a fleet that comes back at once is parsed by all
threads at once: every pull is late, and all their rows are in memory together.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Literal, Self

LIVE_AT_ONCE = 3
FILLING_AT_ONCE = 1  # so that filling gaps takes no more than its share from live pulls

_SLOTS = {
    "live": threading.BoundedSemaphore(LIVE_AT_ONCE),
    "filling": threading.BoundedSemaphore(FILLING_AT_ONCE),
}


class ParseSlot:
    """One thread's turn. A context manager that gives it back; taken when there is work.

    Attributes:
        held: whether it is this thread's turn.
        answered_at: when it was last asked for, i.e. when an answer was in; ``time.monotonic``.
    """

    def __init__(self, kind: Literal["live", "filling"]) -> None:
        self._semaphore = _SLOTS[kind]
        self.held = False
        self.answered_at = 0.0

    def take(self) -> None:
        """Wait for the turn, unless it is held already. Never hold it while a cluster is asked."""
        self.answered_at = time.monotonic()
        if not self.held:
            self._semaphore.acquire()
            self.held = True

    def release(self) -> None:
        """Let the next one work; nothing if the turn is not held."""
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
