"""The connections of this web process whose user is not known, and who holds them.

Every HTTP connection is one of them, and a WebSocket until it is known whose it is. Sockets of
users count apart (:mod:`opscenter.web.user_sockets`), so neither uses up what the other needs. An
address has a share. When that, or the whole, is used up, whoever has waited longest without asking
anything goes, of the address that holds most: a newcomer is refused only if all are being answered.
A few places are kept for this machine itself and for trusted proxies, so that a probe of life is
answered also then.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from opscenter.core.budgets import LocalRate, Slots

CONNECTIONS = Slots("connections", "connections", total=512, address=128)
RESERVED = Slots("reserved_connections", "connections of probes", total=32)

NEW_CONNECTIONS = LocalRate(
    "new_connections", "new connections", by="address", limit=600, seconds=10
)
"""Beyond this an address is cut off at once, before anything is read: taking connections is what
the event loop does for everybody."""


class Droppable(Protocol):
    """A connection that can be ended from outside."""

    def drop(self) -> None:
        """End the connection at once."""


class Seat:
    """The place of one connection, from its beginning until it ends or its user is known."""

    def __init__(
        self, table: ConnectionTable, holder: Droppable, group: str, address: str | None
    ) -> None:
        self.holder = holder
        self.group = group
        self.address = address  # whose share it uses up; None for a trusted proxy
        self.slots: Slots | None = None  # None: it has left
        self._table = table

    def waits(self) -> None:
        """Note that nothing is being answered: the connection may be dropped from now on."""
        self._table.set_idle(self)

    def works(self) -> None:
        """Note that a request is being answered."""
        self._table.set_busy(self)

    def leave(self) -> None:
        """Give the place back; a second time does nothing."""
        self._table.leave(self)


class ConnectionTable:
    """Who holds which of the places. For the event loop's thread alone."""

    def __init__(self, slots: Slots, reserved: Slots) -> None:
        self._slots = slots
        self._reserved = reserved
        self._number: Counter[str] = Counter()  # of each group
        self._idle: dict[str, dict[Seat, None]] = {}  # of each group, the longest idle first

    def enter(
        self, holder: Droppable, group: str, *, is_proxy: bool = False, reserve: bool = False
    ) -> Seat:
        """Return the place of a new connection, which is idle.

        Args:
            holder: what is dropped if somebody else needs the place more.
            group: the address group of the peer; "" is a unix socket, which has no share.
            is_proxy: whether many peers use this address: then it has no share of its own.
            reserve: whether it may have one of the places that are kept.

        Raises:
            BudgetError: there is none, and nobody is idle.
        """
        seat = Seat(self, holder, group, None if is_proxy or not group else group)
        by = self._slots.try_take(address=seat.address)
        if by and self._drop_idle(group if by == "address" else self._largest()):
            by = self._slots.try_take(address=seat.address)
        if not by:
            seat.slots = self._slots
        elif reserve and not self._reserved.try_take():
            seat.slots = self._reserved
        else:
            raise self._slots.refusal(by)
        self._number[group] += 1
        self.set_idle(seat)
        return seat

    def set_idle(self, seat: Seat) -> None:
        """See :meth:`Seat.waits`."""
        if seat.slots is not None:
            self._idle.setdefault(seat.group, {})[seat] = None

    def set_busy(self, seat: Seat) -> None:
        """See :meth:`Seat.works`."""
        of_group = self._idle.get(seat.group, {})
        of_group.pop(seat, None)
        if not of_group:
            self._idle.pop(seat.group, None)

    def leave(self, seat: Seat) -> None:
        """See :meth:`Seat.leave`."""
        if seat.slots is None:
            return
        self.set_busy(seat)
        self._number[seat.group] -= 1
        if not self._number[seat.group]:
            del self._number[seat.group]
        slots, seat.slots = seat.slots, None
        if slots is self._slots:
            slots.give_back(address=seat.address)
        else:
            slots.give_back()

    def _largest(self) -> str | None:
        """Return the group with most connections among those that have an idle one."""
        return max(self._idle, key=lambda group: self._number[group], default=None)

    def _drop_idle(self, group: str | None) -> bool:
        """End the connection of a group that has been idle longest; False if there is none.

        A place of the reserve does not help, so such a one stays.
        """
        idle = () if group is None else self._idle.get(group, ())
        seat = next((one for one in idle if one.slots is self._slots), None)
        if seat is None:
            return False
        self.leave(seat)
        seat.holder.drop()
        return True


table = ConnectionTable(CONNECTIONS, RESERVED)
"""That of this process."""
