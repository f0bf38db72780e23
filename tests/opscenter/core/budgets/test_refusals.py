"""What a budget says when it is full, and how often each did."""

from __future__ import annotations

import pytest
import redis

from opscenter.core.budgets import BudgetError, Slots, count_refusal, flush_refusals, read_refusals


def test_two_budgets_of_one_name_are_a_mistake_in_the_program() -> None:
    Slots("test_twice", "queries", total=1)

    with pytest.raises(ValueError, match="two budgets are named 'test_twice'"):
        Slots("test_twice", "sockets", total=1)


def test_a_name_that_is_no_word_is_a_mistake_in_the_program() -> None:
    with pytest.raises(ValueError, match="is no name"):
        Slots("Two Words", "queries", total=1)


def test_refusals_of_all_processes_are_added_up(redis_server: str) -> None:
    client = redis.Redis.from_url(redis_server)
    flush_refusals(client)
    client.flushall()
    for _ in range(3):
        count_refusal("test_sums", "user")
    flush_refusals(client)
    count_refusal("test_sums", "user")
    flush_refusals(client)

    assert read_refusals(client) == {("test_sums", "user"): 4}


def test_what_cannot_be_added_is_added_later(redis_server: str) -> None:
    client = redis.Redis.from_url(redis_server)
    flush_refusals(client)
    client.flushall()
    count_refusal("test_later", "all")

    with pytest.raises(redis.ConnectionError):
        flush_refusals(redis.Redis.from_url("unix:///nonexistent/redis.sock"))
    flush_refusals(client)

    assert read_refusals(client) == {("test_later", "all"): 1}


def test_the_time_to_come_again_is_at_least_a_second() -> None:
    error = BudgetError("too many", budget="x", by="user", limit=2, retry_after=0.2)

    assert error.headers() == {
        "Retry-After": "1",
        "RateLimit-Limit": "2",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "1",
    }
