"""Rates that one process counts alone, so that its event loop may use them."""

from __future__ import annotations

import time
from collections.abc import Callable

from opscenter.core.budgets.rates import MAX_HOLDERS, Rate
from opscenter.core.budgets.windows import Count


class LocalRate(Rate):
    """At most ``limit`` events of one holder in any ``seconds``, in this process.

    Never asks Redis. For what reaches one process only, such as the tunnels of a hub. What is
    counted is gone when the process ends.

    Args:
        name: name of the budget, a short word for ``/metrics``.
        what: what is counted, as a plural noun for people.
        by: what a holder is, in one word of ours.
        limit: how many events.
        seconds: in which time.
        max_holders: how many holders are counted; a further one is refused until the next window.
        clock: returns seconds; tests set it.
    """

    def __init__(
        self,
        name: str,
        what: str,
        *,
        by: str,
        limit: int,
        seconds: int,
        max_holders: int = MAX_HOLDERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            name, what, by=by, limit=limit, seconds=seconds, max_holders=max_holders, clock=clock
        )

    def _take_shared(
        self, holder: str, number: int, passed: float, limit: int, cost: int
    ) -> Count | None:
        """Return None: nobody else counts."""
        del holder, number, passed, limit, cost
        return None

    def _give_back(self, holder: str, number: int, cost: int) -> None:
        """Do nothing: memory is all there is."""
