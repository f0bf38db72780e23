"""The sockets of users in this web process: so many for one user, and a fair part of the whole."""

from __future__ import annotations

from typing import Protocol

from opscenter.core.budgets import Slots

SOCKETS = Slots("sockets", "live pages", total=1000, user=64)


class UserSocket(Protocol):
    """A socket that can be ended from outside."""

    def give_way(self) -> None:
        """Close soon: another user has fewer sockets and needs the place."""


class UserSockets:
    """Who holds which socket. For the event loop's thread alone."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._of: dict[int, dict[UserSocket, None]] = {}  # by user id, the oldest first

    def enter(self, socket: UserSocket, user: int) -> None:
        """Count a socket for its user.

        When the sockets of all are used up, the oldest socket of the user who holds most gives
        way, unless that user would then hold fewer than the newcomer.

        Raises:
            BudgetError: the user holds too many, or nobody holds more than the user.
        """
        by = self._slots.try_take(user=user)
        if by == "all" and self._make_way(user):
            by = self._slots.try_take(user=user)
        if by:
            raise self._slots.refusal(by)
        self._of.setdefault(user, {})[socket] = None

    def leave(self, socket: UserSocket, user: int) -> None:
        """Count a socket out; a second time does nothing."""
        of_user = self._of.get(user, {})
        if socket not in of_user:
            return
        del of_user[socket]
        if not of_user:
            del self._of[user]
        self._slots.give_back(user=user)

    def _make_way(self, user: int) -> bool:
        most = max(self._of, key=lambda one: len(self._of[one]), default=user)
        if len(self._of.get(most, ())) <= len(self._of.get(user, ())) + 1:
            return False
        oldest = next(iter(self._of[most]))
        self.leave(oldest, most)
        oldest.give_way()
        return True


sockets = UserSockets(SOCKETS)
"""Those of this process."""
