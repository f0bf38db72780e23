"""Budgets of which nothing is used: all tests come from one address."""

from __future__ import annotations

from opscenter.core.budgets import Rate, all_budgets


def forget_budgets(*, within_seconds: int | None = None) -> None:
    """Forget what was counted: of limits within at most that time; of all if None."""
    for budget in all_budgets().values():
        if isinstance(budget, Rate) and budget.seconds <= (within_seconds or budget.seconds):
            budget.forget()
