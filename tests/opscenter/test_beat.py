"""Beat's scheduler, over clocks that jump."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from celery import Celery

from opscenter.beat import Scheduler

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def open_scheduler(tmp_path) -> Iterator:
    made = []

    def make() -> tuple[Scheduler, list[str]]:
        app = Celery("test", broker="memory://")
        app.conf.beat_schedule = {
            "often": {"task": "often", "schedule": 5.0},
            "rarely": {"task": "rarely", "schedule": 3600.0},
        }
        one = Scheduler(app, schedule_filename=str(tmp_path / "schedule"))
        sent: list[str] = []
        one.apply_async = lambda entry, **_: sent.append(entry.task)  # type: ignore[method-assign]
        made.append(one)
        return one, sent

    yield make
    for one in made:
        one.close()


def run(scheduler: Scheduler, seconds: float, clock: time_machine.Coordinates) -> None:
    """Tick as beat does, for some time."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    while datetime.now(UTC) < end:
        clock.shift(max(scheduler.tick(), 0.01))


def test_a_clock_that_goes_back_stops_nothing(open_scheduler):
    with time_machine.travel(NOW, tick=False) as clock:
        scheduler, sent = open_scheduler()
        run(scheduler, 60, clock)
        assert 11 <= sent.count("often") <= 13
        clock.shift(timedelta(days=-1))
        del sent[:]
        run(scheduler, 60, clock)
        assert 11 <= sent.count("often") <= 14
        assert sent.count("rarely") == 1


def test_a_clock_that_was_wrong_at_the_start_before_is_forgotten(open_scheduler):
    with time_machine.travel(NOW + timedelta(days=300), tick=False) as clock:
        scheduler, sent = open_scheduler()
        run(scheduler, 20, clock)
        scheduler.close()
        clock.move_to(NOW)
        scheduler, sent = open_scheduler()
        run(scheduler, 30, clock)
        assert sent.count("often") >= 5


def test_a_clock_that_goes_forward_sends_each_entry_once(open_scheduler):
    with time_machine.travel(NOW, tick=False) as clock:
        scheduler, sent = open_scheduler()
        run(scheduler, 20, clock)
        clock.shift(timedelta(days=1))
        del sent[:]
        run(scheduler, 4, clock)
        assert sorted(set(sent) - {"celery.backend_cleanup"}) == ["often", "rarely"]
