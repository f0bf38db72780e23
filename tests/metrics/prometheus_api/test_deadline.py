"""How long a query may take, and how much of the time it may work."""

from __future__ import annotations

import pytest

from metrics.prometheus_api.deadline import LONGEST_SECONDS, QUICK_SECONDS, Deadline
from metrics.prometheus_api.errors import DeadlineError


class Clock:
    """Time that passes when somebody works or sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def run(clock: Clock, seconds: float, piece: float = 0.01) -> None:
    deadline = Deadline(clock=clock, sleep=clock.sleep)
    end = clock.now + seconds
    while clock.now < end:
        clock.now += piece
        deadline.check()


def test_a_quick_query_never_pauses() -> None:
    clock = Clock()
    run(clock, QUICK_SECONDS)

    assert clock.slept <= 0.02


def test_a_long_one_works_half_of_the_time_from_then_on() -> None:
    clock = Clock()
    run(clock, QUICK_SECONDS + 10)

    assert clock.slept == pytest.approx(5, abs=0.1)


def test_a_pause_is_short_however_long_a_piece_of_work_was() -> None:
    clock = Clock()
    run(clock, QUICK_SECONDS + 2, piece=2.0)

    assert clock.slept == pytest.approx(0.2)


def test_the_time_of_a_query_is_over_with_its_pauses() -> None:
    clock = Clock()
    with pytest.raises(DeadlineError, match="20 s"):
        run(clock, 2 * LONGEST_SECONDS)
    assert clock.now == pytest.approx(1000 + LONGEST_SECONDS, abs=0.2)
