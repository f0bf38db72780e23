"""What the hub says of its own writes: proven, failing, or taking too long."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, OperationalError

from clusters.tunnel.hub.write_state import WriteState
from opscenter.core.write_checks import WriteCheck


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def state(clock):
    return WriteState(clock)


def fail(state: WriteState, clock: Clock, *, seconds: float = 0) -> None:
    def refused() -> None:
        with state.watched():
            clock.now += seconds
            raise OperationalError("database or disk is full")

    with pytest.raises(OperationalError):
        refused()


def test_before_the_first_write_nothing_is_proven(state):
    assert state.check() == WriteCheck(at=1000)


def test_a_good_write_is_the_proof(state, clock):
    with state.watched():
        clock.now = 1002
    assert state.check() == WriteCheck(at=1002, proven_at=1002)


def test_failures_count_from_when_the_first_write_began_that_failed(state, clock):
    fail(state, clock, seconds=30)
    clock.now = 1060
    fail(state, clock)
    assert state.check().failing_since == 1000
    assert state.failures == 2


def test_a_good_write_ends_the_failure(state, clock):
    fail(state, clock)
    with state.watched():
        pass
    assert state.check() == WriteCheck(at=1000, proven_at=1000)


def test_a_write_that_waits_for_a_lock_is_failing_before_it_gives_up(state, clock):
    with state.watched():
        clock.now = 1009
        assert state.check().failing_since is None
        clock.now = 1011
        assert state.check().failing_since == 1000
        assert state.check().error == "a write takes longer than 10 s"
    assert state.check().failing_since is None


def test_a_row_of_a_cluster_that_is_gone_says_nothing_about_the_database(state):
    with pytest.raises(IntegrityError), state.watched():
        raise IntegrityError
    assert state.check() == WriteCheck(at=1000)
    assert state.failures == 0
