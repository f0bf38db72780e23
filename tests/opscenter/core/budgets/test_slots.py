"""How many things may be under way at once, in all and for each holder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscenter.core.budgets import BudgetError, Slots

_numbers = count()


def slots(**options: int) -> Slots:
    return Slots(f"test_slots_{next(_numbers)}", "queries", **options)


@pytest.fixture
def threads() -> Iterator[list[threading.Thread]]:
    started: list[threading.Thread] = []
    yield started
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def waiting(some: Slots, user: int, threads: list[threading.Thread]) -> list[str]:
    """Let a thread wait for a slot; the list says in the end what became of it."""
    became: list[str] = []

    def wait() -> None:
        try:
            with some.hold(wait_seconds=10, user=user):
                became.append("served")
        except BudgetError:
            became.append("refused")

    threads.append(threading.Thread(target=wait))
    threads[-1].start()
    return became


def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def test_a_holder_who_has_its_share_is_refused_and_another_one_is_not() -> None:
    some = slots(total=10, user=2)

    assert [some.try_take(user=1) for _ in range(3)] == ["", "", "user"]
    assert some.try_take(user=2) == ""


def test_when_all_are_taken_everybody_is_refused() -> None:
    some = slots(total=2, user=2)
    some.try_take(user=1)
    some.try_take(user=1)

    assert some.try_take(user=2) == "all"


def test_each_kind_of_holder_has_a_share_of_its_own() -> None:
    some = slots(total=10, user=2, cluster=1)
    some.try_take(user=1, cluster="a")

    assert some.try_take(user=2, cluster="a") == "cluster"
    assert some.try_take(user=1, cluster="b") == ""


def test_a_holder_that_is_left_out_is_not_limited() -> None:
    some = slots(total=3, user=1)

    assert [some.try_take(user=None) for _ in range(4)] == ["", "", "", "all"]


def test_a_kind_without_a_share_is_a_mistake_in_the_program() -> None:
    with pytest.raises(TypeError, match="no share by address"):
        slots(total=1, user=1).try_take(address="x")


def test_a_process_gets_its_part_of_the_total_but_at_least_one() -> None:
    assert slots(total=10, processes=4).total == 2
    assert slots(total=2, processes=4).total == 1


def test_a_refusal_says_whose_share_is_used_up_and_when_to_come_again() -> None:
    some = slots(total=5, user=1)
    some.try_take(user=1)

    with (
        pytest.raises(BudgetError, match="at most 1 for one user; try again in 2 s") as refused,
        some.hold(user=1),
    ):
        pass

    assert refused.value.headers()["Retry-After"] == "2"
    assert (refused.value.by, refused.value.limit) == ("user", 1)


def test_a_slot_comes_back_when_the_work_fails() -> None:
    some = slots(total=1)

    with pytest.raises(ZeroDivisionError), some.hold():
        _ = 1 // 0

    assert some.try_take() == ""


def test_who_holds_nothing_goes_before_those_who_hold_something(
    threads: list[threading.Thread],
) -> None:
    some = slots(total=2, user=2)
    some.try_take(user="greedy")
    some.try_take(user="other")
    order: list[str] = []

    def work(user: str) -> None:
        with some.hold(wait_seconds=10, user=user):
            order.append(user)

    for number, user in enumerate(["greedy", "newcomer"], start=1):
        threads.append(threading.Thread(target=work, args=[user]))
        threads[-1].start()
        while len(some._tickets) < number:  # waits its turn
            pass
    some.give_back(user="other")
    for thread in threads:
        thread.join(10)

    assert order == ["newcomer", "greedy"]


def test_who_waits_too_long_is_refused_and_leaves_no_trace() -> None:
    some = slots(total=1, user=1)
    some.try_take(user=1)

    with pytest.raises(BudgetError), some.hold(wait_seconds=0.01, user=2):
        pass
    some.give_back(user=1)

    assert some.used == 0
    assert some.try_take(user=2) == ""


def test_a_holder_may_let_only_so_many_wait() -> None:
    some = slots(total=1, user=1, waiting=64)
    some.try_take(user=1)
    assert some._may_wait((("user", 1),))
    threads = [threading.Thread(target=_wait_and_leave, args=[some], daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(some._tickets) < 2:
        pass

    with pytest.raises(BudgetError), some.hold(wait_seconds=10, user=1):
        pass
    some.give_back(user=1)
    for thread in threads:
        thread.join(10)

    assert some.used == 0


def _wait_and_leave(some: Slots) -> None:
    with some.hold(wait_seconds=10, user=1):
        pass


def test_how_many_of_one_holder_may_wait_can_be_said(threads: list[threading.Thread]) -> None:
    some = slots(total=1, user=1, waiting_each=5)
    some.try_take(user=1)
    done = [waiting(some, 1, threads) for _ in range(5)]
    until(lambda: len(some._tickets) == 5)

    with pytest.raises(BudgetError), some.hold(wait_seconds=10, user=1):
        pass
    some.give_back(user=1)
    until(lambda: [each[0] for each in done if each] == ["served"] * 5)


def test_where_too_many_wait_the_newest_of_who_waits_most_makes_room(
    threads: list[threading.Thread],
) -> None:
    some = slots(total=1, user=1, waiting=3, waiting_each=3)
    some.try_take(user=9)
    many = []
    for number in range(1, 4):
        many.append(waiting(some, 1, threads))
        until(lambda number=number: len(some._tickets) == number)  # type: ignore[misc]

    other = waiting(some, 2, threads)
    until(lambda: many[2] == ["refused"])
    assert (many[0], many[1], other) == ([], [], [])
    some.give_back(user=9)
    until(lambda: (many[0], many[1], other) == (["served"], ["served"], ["served"]))


def test_where_too_many_wait_nobody_makes_room_for_who_waits_as_much(
    threads: list[threading.Thread],
) -> None:
    some = slots(total=1, user=1, waiting=2, waiting_each=3)
    some.try_take(user=9)
    held = [waiting(some, user, threads) for user in (1, 2)]
    until(lambda: len(some._tickets) == 2)

    with pytest.raises(BudgetError) as refused, some.hold(wait_seconds=10, user=3):
        pass
    assert refused.value.by == "all"
    some.give_back(user=9)
    until(lambda: held == [["served"], ["served"]])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_nothing_ever_exceeds_a_share_or_the_total(steps: list[tuple[bool, int]]) -> None:
    some = Slots("test_slots_property", "queries", total=5, user=2)
    mine = dict.fromkeys(range(4), 0)

    for takes, user in steps:
        if takes:
            by = some.try_take(user=user)
            assert (by == "") == (mine[user] < 2 and sum(mine.values()) < 5)
            mine[user] += by == ""
        elif mine[user]:
            some.give_back(user=user)
            mine[user] -= 1
        assert some.used == sum(mine.values())
        assert all(some.held("user", one) == number for one, number in mine.items())
