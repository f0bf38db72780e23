"""Budgets of which nothing is used, and whose time stands still: tests come from one address."""

from __future__ import annotations

from opscenter.core.budgets import Rate, all_budgets


def forget_budgets(*, within_seconds: int | None = None) -> None:
    """Forget what was counted: of limits within at most that time; of all if None.

    Their time stands still from then on: a slow machine does not make what was counted fade.
    """
    for budget in all_budgets().values():
        if isinstance(budget, Rate) and budget.seconds <= (within_seconds or budget.seconds):
            budget.forget()
            budget.clock = _standing


def _standing() -> float:
    return 1_800_000_000.0
