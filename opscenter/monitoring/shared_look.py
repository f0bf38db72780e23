"""One look at the centre's parts for all who ask at the same time.

Anybody may ask whether the centre is ready, as often as they like, and each look asks Redis and
both databases. Those who come while one is under way share the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedLook(Generic[T]):
    """Calls a function for each caller, but once for all who wait for it together.

    What a caller gets is never older than its question. Safe to use from any thread.

    Args:
        look: what is called; one call at a time.
        clock: returns seconds that never go back.
    """

    def __init__(self, look: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._turn = threading.Lock()
        self._latest: tuple[float, T] | None = None  # when it began, and what was found

    def __call__(self) -> T:
        """Return what was found by a look that began after this was called.

        Raises:
            Exception: what the look raises, to whoever's turn it was; the next one looks again.
        """
        asked = self._clock()
        with self._turn:
            if self._latest is None or self._latest[0] <= asked:
                began = self._clock()
                self._latest = began, self._look()
            return self._latest[1]
