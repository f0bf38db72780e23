"""Leases in a real Redis."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from opscenter.core import leases
from opscenter.processes.redis_server import RedisBinary, redis_arguments
from tests.centre import wait_until


@pytest.fixture
def short_lived_redis(
    starts_servers, tmp_path: Path, settings
) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis that a test may kill."""
    path = shutil.which("redis-server")
    assert path, "redis-server is missing: apt-get install redis-server"
    socket = tmp_path / "redis.sock"
    settings.REDIS_URL = f"unix://{socket}"
    with subprocess.Popen(
        redis_arguments(RedisBinary(path), socket), stdout=subprocess.DEVNULL
    ) as process:
        wait_until(socket.exists, "Redis listens")
        yield process
        process.kill()


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


def test_a_lease_that_ran_out_while_its_holder_worked_is_logged_as_lost(redis_server, caplog):
    with (
        caplog.at_level(logging.WARNING, "opscenter.core.leases"),
        leases.wait_for("a", 30, timeout_seconds=1),
    ):
        redis.Redis.from_url(redis_server).delete("opscenter:lease:a")
    assert "the lease a was lost: the work took more than 30 s" in caplog.text


def test_a_lease_without_time_runs_out_at_once_instead_of_never(redis_server):
    with leases.hold("a", 0):
        assert redis.Redis.from_url(redis_server).ttl("opscenter:lease:a") != -1


def test_a_lease_ends_in_another_thread_than_it_began_in(redis_server, caplog):
    held = leases.hold("a", 30)
    assert held.__enter__()
    thread = threading.Thread(target=held.__exit__, args=(None, None, None))
    thread.start()
    thread.join(20)
    assert not redis.Redis.from_url(redis_server).exists("opscenter:lease:a")
    assert not caplog.records


def test_a_lease_is_released_in_a_redis_that_forgot_its_scripts(redis_server, caplog):
    with leases.hold("a", 30):
        pass  # the script is known from here on
    with leases.hold("a", 30):
        redis.Redis.from_url(redis_server).script_flush()
    assert not redis.Redis.from_url(redis_server).exists("opscenter:lease:a")
    assert not caplog.records


def test_a_lease_that_cannot_be_released_is_logged_and_left_to_run_out(short_lived_redis, caplog):
    with caplog.at_level(logging.WARNING, "opscenter.core.leases"), leases.hold("a", 30) as held:
        assert held
        short_lived_redis.kill()
        short_lived_redis.wait()
    assert "the lease a was not given back" in caplog.text


def test_without_redis_nobody_learns_whether_a_lease_is_free(settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"
    with pytest.raises(redis.ConnectionError), leases.hold("a", 30):
        pass


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


def test_a_waiter_gets_the_lease_when_it_is_released(redis_server):
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
