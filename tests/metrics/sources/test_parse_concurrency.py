"""Turns: few threads work at a time, and one that waits for a cluster holds nobody up."""

from __future__ import annotations

import threading
import time

import pytest

from metrics.sources.parse_concurrency import FILLING_AT_ONCE, LIVE_AT_ONCE, ParseSlot


@pytest.mark.parametrize(("kind", "limit"), [("live", LIVE_AT_ONCE), ("filling", FILLING_AT_ONCE)])
def test_no_more_than_the_limit_work_at_a_time(kind, limit):
    working, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal working, most
        with ParseSlot(kind) as slot:
            for _ in range(3):
                slot.acquire()
                slot.acquire()  # held already
                with lock:
                    working += 1
                    most = max(most, working)
                time.sleep(0.005)
                with lock:
                    working -= 1
                slot.release()
            slot.release()  # not held

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= limit


def test_filling_gaps_holds_no_live_pull_up():
    turns = [ParseSlot("filling") for _ in range(FILLING_AT_ONCE)]
    for slot in turns:
        slot.acquire()
    with ParseSlot("live") as live:
        live.acquire()
        assert live.held
    for slot in turns:
        slot.release()


def test_an_error_gives_the_turn_back():
    def fail() -> None:
        with ParseSlot("live") as slot:
            slot.acquire()
            raise ValueError("broken")

    for _ in range(LIVE_AT_ONCE + 1):
        with pytest.raises(ValueError, match="broken"):
            fail()
