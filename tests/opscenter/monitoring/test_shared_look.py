"""Many who ask at once cost two looks, and none gets an answer older than its question."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from opscenter.monitoring.shared_look import SharedLook
from tests.centre import wait_until


def test_all_who_come_while_a_look_is_under_way_share_the_next_one():
    began, go_on = threading.Event(), threading.Event()
    looks: list[int] = []
    asked: list[float] = []

    def look() -> int:
        looks.append(len(looks))
        began.set()
        assert go_on.wait(20)
        return len(looks)

    def clock() -> float:
        asked.append(len(asked))
        return asked[-1]

    shared = SharedLook(look, clock)
    with ThreadPoolExecutor(21) as threads:
        first = threads.submit(shared)
        assert began.wait(20)
        others = [threads.submit(shared) for _ in range(20)]
        wait_until(lambda: len(asked) >= 22, "all have asked")
        go_on.set()

    assert first.result() == 1
    assert {one.result() for one in others} == {2}
    assert len(looks) == 2


def test_one_who_comes_later_gets_a_look_of_its_own():
    found = iter(["not ready", "ready"])
    shared = SharedLook(lambda: next(found))

    assert [shared(), shared()] == ["not ready", "ready"]


def test_after_a_look_that_failed_the_next_one_looks_again():
    tries = iter([ValueError("away"), None])

    def look() -> str:
        if error := next(tries):
            raise error
        return "well"

    shared = SharedLook(look)
    with pytest.raises(ValueError, match="away"):
        shared()
    assert shared() == "well"
