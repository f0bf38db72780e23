"""Which process hangs, by value: signs of life of invented processes at invented times."""

from __future__ import annotations

import pytest

from opscenter.processes.definitions import signs_through
from opscenter.processes.liveness import LATE_SECONDS, Liveness, Sign

SIGN_THROUGH = signs_through()

START = 1_000_000.0
ALL = ("redis", "web", "hub", "worker", "beat")


class Scene:
    """Checks processes every five seconds; all show life until a test changes that."""

    def __init__(self) -> None:
        self.liveness = Liveness(
            limit_seconds=60, first_sign_seconds=60, check_seconds=5, through=SIGN_THROUGH
        )
        self.now = START
        self.started = dict.fromkeys(ALL, START)
        self.seen: dict[str, float | None] = dict.fromkeys(ALL)
        self.silent: set[str] = set()

    def refresh_in_force(self) -> list[str]:
        for name in ALL:
            carriers = {name, SIGN_THROUGH.get(name), SIGN_THROUGH.get(SIGN_THROUGH.get(name, ""))}
            if not carriers & self.silent:
                self.seen[name] = self.now
        return self.liveness.hung(
            {name: Sign(self.started[name], self.seen[name]) for name in ALL}, self.now
        )

    def run(self, seconds: float) -> list[str]:
        """Return the names found hung, in the order of finding; each is restarted at once."""
        found = []
        until = self.now + seconds
        while self.now < until:
            self.now += 5
            for name in self.refresh_in_force():
                found.append(name)
                self.silent.discard(name)
                self.started[name] = self.now
        return found


def test_nobody_hangs_who_shows_life():
    assert Scene().run(600) == []


@pytest.mark.parametrize("name", ALL)
def test_only_the_one_that_is_silent_is_blamed(name):
    scene = Scene()
    scene.run(120)
    scene.silent = {name}
    assert scene.run(300) == [name]


def test_two_that_hang_are_found_one_after_the_other():
    scene = Scene()
    scene.run(120)
    scene.silent = {"worker", "beat"}
    assert scene.run(300) == ["worker", "beat"]


def test_a_start_has_time_for_its_first_sign():
    liveness = Liveness(limit_seconds=10, first_sign_seconds=60, check_seconds=5)
    for age in range(0, 61, 5):
        assert liveness.hung({"worker": Sign(START, None)}, START + age) == []
    assert liveness.hung({"worker": Sign(START, None)}, START + 65) == ["worker"]


def test_the_sign_of_the_one_before_is_not_a_sign_of_this_one():
    liveness = Liveness(limit_seconds=10, first_sign_seconds=60, check_seconds=5)
    assert liveness.hung({"hub": Sign(START, START - 300)}, START + 5) == []


@pytest.mark.parametrize("jump", [LATE_SECONDS + 100, 86_400.0, -3600.0])
def test_a_machine_that_slept_or_a_clock_that_jumped_blames_nobody(jump):
    scene = Scene()
    scene.run(120)
    scene.now += jump
    scene.silent = set(ALL)  # the first check comes before any sign
    assert scene.refresh_in_force() == []
    scene.silent = set()
    assert scene.run(300) == []


def test_a_process_that_hangs_is_found_although_the_clock_was_set_back_by_two_hours():
    scene = Scene()
    scene.run(120)
    scene.silent = {"worker"}
    scene.now -= 7200
    assert scene.run(600) == ["worker"]


def test_processes_that_work_survive_a_clock_that_is_set_back():
    scene = Scene()
    scene.run(120)
    scene.now -= 7200
    assert scene.run(600) == []
