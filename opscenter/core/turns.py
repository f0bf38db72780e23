"""The turn of the request that is being answered: whoever only waits for others gives it back.

Turns are for work of this process. A view that waits for a cluster does no work, so it must not
keep those waiting who do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

_end: ContextVar[Callable[[], None] | None] = ContextVar("the end of this turn", default=None)


def set_turn(end: Callable[[], None]) -> None:
    """Say how the turn of this request ends; ``end`` may be called more than once."""
    _end.set(end)


def leave_turn() -> None:
    """Give the turn of this request back early; nothing happens outside of a request."""
    end = _end.get()
    if end is not None:
        end()
