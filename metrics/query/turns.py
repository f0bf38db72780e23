"""The turns of reads that take a while: ranges, top lists, charts and their files.

Each is bounded by what it answers, so few at once bound what they take together; and one user's do
not keep another's waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opscenter.core.budgets import Slots

WAIT_SECONDS = 10.0
READS = Slots("reads", "charts, lists and files", total=8, user=4, waiting=128, waiting_each=32)
"""At once in this process. A page asks for all its charts together, so many may wait."""


@contextmanager
def reading(user: int | None) -> Iterator[None]:
    """Wait for a user's turn to read, and hold it.

    Raises:
        BudgetError: it does not come within ten seconds, or too many wait already.
    """
    with READS.hold(wait_seconds=WAIT_SECONDS, user=user):
        yield
