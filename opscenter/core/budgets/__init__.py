"""Limits, turns and shares: nobody uses up what belongs to others.

* :class:`Slots`: how many things of a kind may be under way at once in this process, in all and for
  each user, address group or cluster. Never asks Redis, so the event loop may use it.
* :class:`Rate`: how many may begin within a time, counted in Redis for all processes together.
  Without Redis each process keeps its share. Not for the event loop.
* :class:`LocalRate`: the same in this process alone. For the event loop.

Both refuse when they are full; neither forgets what it has counted. What is refused says what, why
and when to come again (:class:`BudgetError`), and is counted for ``/metrics``
(:mod:`opscenter.core.budgets.refusals`). ``docs/limits.md`` lists every budget.
"""

from opscenter.core.budgets.addresses import peer_group
from opscenter.core.budgets.local_rates import LocalRate
from opscenter.core.budgets.rates import Rate
from opscenter.core.budgets.refusals import (
    BudgetError,
    all_budgets,
    count_refusal,
    flush_refusals,
    read_refusals,
)
from opscenter.core.budgets.slots import Slots

__all__ = [
    "BudgetError",
    "LocalRate",
    "Rate",
    "Slots",
    "all_budgets",
    "count_refusal",
    "flush_refusals",
    "peer_group",
    "read_refusals",
]
