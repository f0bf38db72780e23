"""How many events of a kind each holder may cause within a time, counted in a real Redis."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import redis

from opscenter.core.budgets import BudgetError, Rate

_numbers = count()


class Clock:
    """The time of a test, in Unix seconds."""

    def __init__(self) -> None:
        self.now = 600.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rates(clock: Clock, number: int = 1, **options: object) -> list[Rate]:
    """Return one rate as so many processes have it."""
    name = f"test_rate_{next(_numbers)}"
    settings: dict[str, object] = {"by": "address", "limit": 3, "seconds": 60, "clock": clock}
    return [Rate(name, "enrolments", **(settings | options)) for _ in range(number)]  # type: ignore[arg-type]


def spent(rate: Rate, times: int, holder: object = "a") -> int:
    """Return how many of so many events were counted."""
    counted = 0
    for _ in range(times):
        try:
            rate.spend(holder)
        except BudgetError:
            continue
        counted += 1
    return counted


def test_a_holder_gets_its_limit_and_another_one_too(redis_server: str, clock: Clock) -> None:
    [rate] = rates(clock)

    assert spent(rate, 5) == 3
    assert spent(rate, 5, "b") == 3


def test_two_processes_count_together(redis_server: str, clock: Clock) -> None:
    one, other = rates(clock, 2)

    assert spent(one, 2) + spent(other, 5) == 3


def test_how_many_are_left_is_said(redis_server: str, clock: Clock) -> None:
    [rate] = rates(clock)

    assert [rate.spend("a") for _ in range(3)] == [2, 1, 0]


def test_after_the_time_that_is_named_one_more_is_allowed(redis_server: str, clock: Clock) -> None:
    [rate] = rates(clock)
    spent(rate, 3)
    with pytest.raises(BudgetError) as refused:
        rate.spend("a")

    clock.now += refused.value.retry_after

    assert spent(rate, 3) == 1


def test_a_refusal_says_what_and_when(redis_server: str, clock: Clock) -> None:
    [rate] = rates(clock)
    spent(rate, 3)

    with pytest.raises(
        BudgetError, match=r"too many enrolments: at most 3 in 1 minute for one address; try again"
    ) as refused:
        rate.spend("a")

    assert refused.value.headers()["RateLimit-Limit"] == "3"


def test_what_did_not_count_after_all_is_taken_back(redis_server: str, clock: Clock) -> None:
    one, other = rates(clock, 2)
    spent(one, 3)
    one.refund("a")

    assert spent(other, 2) == 1


def test_looking_counts_nothing(redis_server: str, clock: Clock) -> None:
    [rate] = rates(clock)
    for _ in range(10):
        rate.check("a")
    assert spent(rate, 5) == 3

    with pytest.raises(BudgetError):
        rate.check("a")


def test_a_redis_that_was_emptied_makes_nobody_forget(redis_server: str, clock: Clock) -> None:
    [rate] = rates(clock)
    spent(rate, 3)
    redis.Redis.from_url(redis_server).flushall()

    assert spent(rate, 3) == 0


def test_without_redis_each_process_allows_its_part(clock: Clock, settings: Any) -> None:
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    one, other = rates(clock, 2, limit=6, processes=2)

    assert (spent(one, 10), spent(other, 10)) == (3, 3)


def test_thousands_of_others_make_nobody_forget(redis_server: str, clock: Clock) -> None:
    [rate] = rates(clock)
    spent(rate, 3)
    for number in range(2000):
        rate.spend(f"other {number}")

    assert spent(rate, 3) == 0


def test_a_full_table_refuses_newcomers_until_the_next_window(
    redis_server: str, clock: Clock
) -> None:
    one, other = rates(clock, 2, max_holders=2)
    one.spend("a")
    other.spend("b")

    with pytest.raises(BudgetError, match="too many sides"):
        one.spend("c")
    clock.now += 60

    assert spent(one, 1, "c") == 1


def test_what_is_counted_goes_away_by_itself(redis_server: str, clock: Clock) -> None:
    [rate] = rates(clock)
    rate.spend("a")
    client = redis.Redis.from_url(redis_server)

    [key] = client.keys("opscenter:rate:*")

    assert 0 < client.ttl(key) <= 120


def test_a_holders_name_of_any_length_is_counted_by_its_checksum(
    redis_server: str, clock: Clock
) -> None:
    [rate] = rates(clock)

    assert spent(rate, 5, "x" * 100_000) == 3
    [key] = redis.Redis.from_url(redis_server).keys("opscenter:rate:*")
    assert redis.Redis.from_url(redis_server).memory_usage(key) < 1000
