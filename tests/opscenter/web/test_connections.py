"""Who keeps a connection, and whose goes, when there are too many."""

from __future__ import annotations

import pytest

from opscenter.core.budgets import BudgetError, Slots
from opscenter.web.connections import ConnectionTable, Seat


class Connection:
    dropped = False

    def drop(self) -> None:
        self.dropped = True


@pytest.fixture
def table() -> ConnectionTable:
    return ConnectionTable(
        Slots("test_connections", "connections", total=6, address=4),
        Slots("test_reserved", "connections of probes", total=1),
    )


def enter(table: ConnectionTable, group: str, number: int = 1) -> list[Seat]:
    return [table.enter(Connection(), group) for _ in range(number)]


def dropped(seats: list[Seat]) -> list[bool]:
    return [seat.holder.dropped for seat in seats]  # type: ignore[attr-defined]


def test_a_full_share_costs_its_own_address_the_one_that_is_idle_longest(table) -> None:
    first = enter(table, "a", 4)
    other = enter(table, "b")

    enter(table, "a")

    assert dropped(first) == [True, False, False, False]
    assert dropped(other) == [False]


def test_where_all_are_full_the_address_that_holds_most_gives_way_to_a_newcomer(table) -> None:
    many, few = enter(table, "a", 4), enter(table, "b", 2)

    newcomer = enter(table, "c")

    assert dropped(many) == [True, False, False, False]
    assert dropped(few) == [*dropped(newcomer), False] == [False, False]


def test_a_connection_that_is_being_answered_is_never_dropped(table) -> None:
    many = enter(table, "a", 4)
    few = enter(table, "b", 2)
    for seat in many:
        seat.works()

    enter(table, "c")

    assert not any(dropped(many))
    assert dropped(few) == [True, False]


def test_a_newcomer_is_refused_only_if_all_are_being_answered(table) -> None:
    for seat in (*enter(table, "a", 4), *enter(table, "b", 2)):
        seat.works()

    with pytest.raises(BudgetError) as refused:
        enter(table, "c")

    assert (refused.value.by, refused.value.budget) == ("all", "test_connections")


def test_a_probe_of_this_machine_has_a_place_then(table) -> None:
    for seat in (*enter(table, "a", 4), *enter(table, "b", 2)):
        seat.works()

    probe = table.enter(Connection(), "c", reserve=True)
    with pytest.raises(BudgetError):
        table.enter(Connection(), "c", reserve=True)
    probe.leave()

    table.enter(Connection(), "c", reserve=True)


def test_a_proxy_has_no_share_but_takes_part_in_the_whole(table) -> None:
    proxied = [table.enter(Connection(), "p", is_proxy=True) for _ in range(6)]

    enter(table, "a")

    assert dropped(proxied) == [True, False, False, False, False, False]


def test_a_place_that_is_given_back_twice_is_given_back_once(table) -> None:
    seats = enter(table, "a", 3)
    for _ in range(2):
        seats[0].leave()
        seats[0].waits()  # its answer ends after it was dropped

    assert table._slots.used == 2
    enter(table, "a", 3)
    assert dropped(seats) == [False, True, False]
