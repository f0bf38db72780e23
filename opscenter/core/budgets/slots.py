"""How many things may be under way at once, in all and for each holder.

Counted in this process alone: a limit for the whole centre is divided by the number of processes.
Those who wait get a slot in turn, whoever holds fewest first, so that a holder who asks for many
never keeps another one waiting for more than what is under way already.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from opscenter.core.budgets.refusals import BudgetError, count_refusal, register

ALL = "all"
_Key = tuple[str, Hashable]


class Slots:
    """Slots of one kind of work in this process. Safe to use from any thread.

    Args:
        name: name of the budget, a short word for ``/metrics``.
        what: what is counted, as a plural noun for people ("live queries").
        total: how many at once in all.
        processes: how many processes share ``total``; this one gets its part, at least 1.
        waiting: how many may wait for a slot. When so many do, a newcomer takes the place of the
            newest ticket of whoever waits most, if that one has more than the newcomer; else it is
            refused at once.
        waiting_each: how many of one holder may wait; by default twice its share.
        shares: how many at once for one holder of each kind, e.g. ``user=2, cluster=1``. They are
            not divided: a holder's requests may all reach the same process.
    """

    def __init__(
        self,
        name: str,
        what: str,
        *,
        total: int,
        processes: int = 1,
        waiting: int = 64,
        waiting_each: int | None = None,
        **shares: int,
    ) -> None:
        self.name = name
        self.what = what
        register(self)
        self.total = max(1, total // processes)
        self.waiting = waiting
        self.waiting_each = waiting_each
        self.shares = shares
        self._lock = threading.Lock()
        self._used = 0
        self._held: Counter[_Key] = Counter()
        self._tickets: list[_Ticket] = []

    @property
    def used(self) -> int:
        """Return how many slots are taken."""
        return self._used

    def held(self, kind: str, holder: Hashable) -> int:
        """Return how many slots one holder has; 0 if none."""
        return self._held[kind, holder]

    def try_take(self, **holders: Hashable) -> str:
        """Take a slot if there is one now, without counting a refusal.

        Args:
            holders: who asks, by the kinds of ``shares``: ``user=5, cluster=pk``. A kind that is
                left out, or None, is not limited.

        Returns:
            "" if the slot is taken: give it back with the same holders. Else whose share is used
            up: a kind, or "all".

        Raises:
            TypeError: if a kind has no share.
        """
        keys = self._keys(holders)
        with self._lock:
            by = self._full(keys)
            if not by:
                self._take(keys)
            return by

    def give_back(self, **holders: Hashable) -> None:
        """Give back a slot that was taken with these holders; whoever waits gets it."""
        with self._lock:
            self._release(self._keys(holders))

    @contextmanager
    def hold(self, *, wait_seconds: float = 0.0, **holders: Hashable) -> Iterator[None]:
        """Hold a slot, after a wait in turn if there is none now.

        Blocks the thread: not for the event loop.

        Raises:
            BudgetError: there was none within ``wait_seconds``, or too many wait already.
            TypeError: if a kind has no share.
        """
        keys = self._keys(holders)
        self._wait_for(keys, wait_seconds)
        try:
            yield
        finally:
            with self._lock:
                self._release(keys)

    def refusal(self, by: str, *, retry_after: float = 2.0) -> BudgetError:
        """Count a refusal, and return the error that says so.

        Args:
            by: whose share is used up, as :meth:`try_take` returned it.
            retry_after: seconds after which it is worth trying again.
        """
        count_refusal(self.name, by)
        limit = self.total if by == ALL else self.shares[by]
        whose = "in all" if by == ALL else f"for one {by}"
        msg = (
            f"too many {self.what} at once: at most {limit} {whose}; "
            f"try again in {max(1, round(retry_after))} s"
        )
        return BudgetError(msg, budget=self.name, by=by, limit=limit, retry_after=retry_after)

    def _keys(self, holders: dict[str, Hashable]) -> tuple[_Key, ...]:
        unknown = holders.keys() - self.shares.keys()
        if unknown:
            msg = f"{self.name} has no share by {', '.join(sorted(unknown))}"
            raise TypeError(msg)
        return tuple((kind, who) for kind, who in holders.items() if who is not None)

    def _full(self, keys: tuple[_Key, ...]) -> str:
        """Return whose share is used up: a holder's before that of all; "" if none is."""
        for key in keys:
            if self._held[key] >= self.shares[key[0]]:
                return key[0]
        return ALL if self._used >= self.total else ""

    def _take(self, keys: tuple[_Key, ...]) -> None:
        self._used += 1
        self._held.update(keys)

    def _release(self, keys: tuple[_Key, ...]) -> None:
        self._used -= 1
        for key in keys:
            self._held[key] -= 1
            if self._held[key] <= 0:
                del self._held[key]
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        """Give free slots to those who wait: whoever holds fewest first, then the oldest."""
        while self._used < self.total:
            ready = [one for one in self._tickets if not self._full(one.keys)]
            if not ready:
                return
            ticket = min(ready, key=lambda one: sum(self._held[key] for key in one.keys))
            self._tickets.remove(ticket)
            self._take(ticket.keys)
            ticket.served.set()

    def _wait_for(self, keys: tuple[_Key, ...], wait_seconds: float) -> None:
        """Take a slot, now or in turn.

        Raises:
            BudgetError: there was none in time.
        """
        with self._lock:
            by = self._full(keys)
            if not by:
                self._take(keys)
                return
            if wait_seconds <= 0 or not self._may_wait(keys):
                raise self.refusal(by)
            ticket = _Ticket(keys)
            self._tickets.append(ticket)
        if ticket.served.wait(wait_seconds):
            if ticket.displaced:
                raise self.refusal(ALL)
            return
        with self._lock:
            if ticket.served.is_set() and not ticket.displaced:  # served in the last moment
                return
            if ticket in self._tickets:
                self._tickets.remove(ticket)
            by = self._full(keys) or ALL
        raise self.refusal(by)

    def _may_wait(self, keys: tuple[_Key, ...]) -> bool:
        """Return whether one more may wait, perhaps in the place of another."""
        each = self.waiting_each
        for key in keys:
            of_holder = sum(key in one.keys for one in self._tickets)
            if of_holder >= (2 * self.shares[key[0]] if each is None else each):
                return False
        return len(self._tickets) < self.waiting or self._displace(keys)

    def _displace(self, keys: tuple[_Key, ...]) -> bool:
        """Refuse the newest ticket of whoever waits most; False if the newcomer waits as much."""
        waits = Counter(key for one in self._tickets for key in one.keys)

        def most(keys: tuple[_Key, ...]) -> int:
            return max((waits[key] for key in keys), default=0)

        ticket = max(reversed(self._tickets), key=lambda one: most(one.keys), default=None)
        if ticket is None or most(ticket.keys) <= most(keys) + 1:
            return False
        self._tickets.remove(ticket)
        ticket.displaced = True
        ticket.served.set()
        return True


class _Ticket:
    """Somebody who waits for a slot."""

    def __init__(self, keys: tuple[_Key, ...]) -> None:
        self.keys = keys
        self.served = threading.Event()
        self.displaced = False
