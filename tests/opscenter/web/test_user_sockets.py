"""One user's sockets leave room for another's."""

from __future__ import annotations

import pytest

from opscenter.core.budgets import BudgetError, Slots
from opscenter.web.user_sockets import UserSockets


class Page:
    gone = False

    def give_way(self) -> None:
        self.gone = True


@pytest.fixture
def sockets() -> UserSockets:
    return UserSockets(Slots("test_sockets", "live pages", total=5, user=4))


def opened(sockets: UserSockets, user: int, number: int = 1) -> list[Page]:
    pages = [Page() for _ in range(number)]
    for page in pages:
        sockets.enter(page, user)
    return pages


def test_one_user_holds_only_so_many(sockets) -> None:
    opened(sockets, 1, 4)

    with pytest.raises(BudgetError) as refused:
        opened(sockets, 1)

    assert refused.value.by == "user"


def test_where_all_are_used_up_the_oldest_of_who_holds_most_gives_way(sockets) -> None:
    many, one = opened(sockets, 1, 4), opened(sockets, 2)

    opened(sockets, 3)

    assert [page.gone for page in (*many, *one)] == [True, False, False, False, False]


def test_a_user_who_holds_as_many_as_the_others_is_refused(sockets) -> None:
    opened(sockets, 1, 3)
    opened(sockets, 2, 2)

    with pytest.raises(BudgetError) as refused:
        opened(sockets, 2)

    assert refused.value.by == "all"


def test_a_socket_is_counted_out_once(sockets) -> None:
    page = opened(sockets, 1, 2)[0]
    for _ in range(2):
        sockets.leave(page, 1)

    assert sockets._slots.used == 1
