"""A rate that one process counts alone asks no Redis."""

from __future__ import annotations

import pytest

from opscenter.core.budgets import BudgetError, LocalRate


def test_a_holder_has_so_many_in_a_time_without_any_redis(settings):
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    now = [0.0]
    rate = LocalRate("test_local", "tests", by="cluster", limit=3, seconds=60, clock=lambda: now[0])
    assert [rate.spend("one") for _ in range(3)] == [2, 1, 0]
    with pytest.raises(BudgetError, match="too many tests: at most 3 in 1 minute for one cluster"):
        rate.check("one")
    rate.spend("two")
    now[0] = 60 + 40
    assert rate.spend("one") >= 0
