"""Leases in a real Redis."""

from __future__ import annotations

import logging
import threading

import pytest
import redis

from opscenter.core import leases


def test_only_one_holds_a_lease_and_it_is_free_afterwards(redis_server):
    with leases.hold("a", 30) as first:
        assert first
        with leases.hold("a", 30) as second:
            assert not second
        with leases.hold("b", 30) as other:
            assert other
    with leases.hold("a", 30) as again:
        assert again


def test_a_lease_comes_free_when_its_holder_fails(redis_server):
    with pytest.raises(ZeroDivisionError), leases.hold("a", 30):
        raise ZeroDivisionError
    with leases.hold("a", 30) as again:
        assert again


def test_a_lost_lease_is_logged_and_the_next_holders_is_left_alone(redis_server, caplog):
    client = redis.Redis.from_url(redis_server)
    with caplog.at_level(logging.WARNING, "opscenter.core.leases"), leases.hold("a", 30):
        client.set("opscenter:lease:a", "somebody else")
    assert "the lease a was lost" in caplog.text
    assert client.get("opscenter:lease:a") == b"somebody else"


def test_a_lease_runs_out_by_itself(redis_server):
    with leases.hold("a", 30):
        assert 29_000 < redis.Redis.from_url(redis_server).pttl("opscenter:lease:a") <= 30_000


def test_one_of_several_slots_is_held_until_all_are_taken(redis_server):
    slots = ["s0", "s1"]
    with (
        leases.hold_any(slots, 30) as a,
        leases.hold_any(slots, 30) as b,
        leases.hold_any(slots, 30) as c,
    ):
        assert (a, b, c) == ("s0", "s1", None)


def test_a_waiter_gets_the_lease_when_it_is_given_back(redis_server):
    order = []
    taken, go_on = threading.Event(), threading.Event()

    def holder():
        with leases.hold("a", 30):
            taken.set()
            go_on.wait(20)
            order.append("holder")

    thread = threading.Thread(target=holder)
    thread.start()
    taken.wait(20)
    threading.Timer(0.1, go_on.set).start()
    with leases.wait_for("a", 30, timeout_seconds=20):
        order.append("waiter")
    thread.join(20)
    assert order == ["holder", "waiter"]


def test_a_waiter_gives_up(redis_server):
    with (
        leases.hold("a", 30),
        pytest.raises(leases.LeaseTimeoutError, match="lease a was not free"),
        leases.wait_for("a", 30, timeout_seconds=0.1),
    ):
        pass


def test_thirty_two_at_once_enter_one_at_a_time(redis_server):
    inside, worst, lock = 0, 0, threading.Lock()

    def work():
        nonlocal inside, worst
        with leases.wait_for("a", 30, timeout_seconds=60):
            with lock:
                inside += 1
                worst = max(worst, inside)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert worst == 1
