"""Who may be in before signing in: the connections of both ports on which nobody has yet.

Strangers share their places; further ones are kept for addresses from which a key signed in within
a day. Whoever holds most gives way: when there is no place left, the oldest connection of the
group that holds most goes, unless the newcomer's own group holds as many. In a storm of agents,
one from each address, nobody is displaced: what has begun is finished.

A group is an address (:func:`peer_group`); a network is an IPv4 /24 or an IPv6 /48, so that the
many addresses of one owner do not outweigh single ones.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Literal

from clusters.tunnel.hub.limits import Limits
from opscenter.core.budgets import BudgetError, LocalRate, Slots, count_refusal, peer_group

MAX_KNOWN = 10_000
"""Addresses of agents that are remembered."""
_PROXY = "proxy"  # network of the connections of trusted proxies that have not yet asked
_ASKS_WITHIN_SECONDS = 1.0  # a proxy connects to pass on a request that it has
End = Literal["", "shed", "silent", "displaced"]


class Entry:
    """One connection on which nobody has signed in.

    Attributes:
        address: where it comes from; of a trusted proxy until that has forwarded a request.
        group: whom it is counted for.
        network: network of the group.
        known: whether a key signed in from there lately.
        began_s: when it came, by the door's clock.
        abort: ends the connection at once; set by whoever serves it.
        has_spoken: returns whether the peer has exchanged keys.
        end: why we ended it; "" if we did not.
    """

    __slots__ = (
        "abort", "address", "began_s", "end", "group", "has_spoken", "inside", "known", "network"
    )  # fmt: skip

    def __init__(self, address: str, group: str, *, known: bool, began_s: float) -> None:
        self.address = address
        self.group = group
        self.network = _PROXY if group.startswith(f"{_PROXY} ") else network_of(group)
        self.known = known
        self.began_s = began_s
        self.abort: Callable[[], object] = lambda: None
        self.has_spoken: Callable[[], bool] = lambda: False
        self.inside = True
        self.end: End = ""


class Door:
    """Lets connections in, and decides who goes when there are too many. For one event loop.

    Args:
        limits: the hub's bounds.
        clock: returns monotonic seconds; tests set it.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._inside: dict[Entry, None] = {}  # the oldest first
        self._slots = Slots(
            "hub_handshakes",
            "unfinished handshakes",
            total=limits.pending_handshakes + limits.pending_handshakes_kept,
            address=limits.pending_handshakes_per_address,
            stranger=limits.pending_handshakes,
        )
        self._rate = LocalRate(
            "hub_connections", "connections to the hub", by="address",
            limit=limits.connections_per_minute, seconds=60, clock=clock,
        )  # fmt: skip
        self._known: OrderedDict[str, float] = OrderedDict()  # group -> when a key signed in
        self._swept_s = clock()
        self._numbers = 0
        self.accepting = True

    @property
    def pending(self) -> int:
        """Return how many connections are in on which nobody has signed in."""
        return len(self._inside)

    def held(self, address: str) -> int:
        """Return how many of them come from an address."""
        return self._slots.held("address", peer_group(address))

    def enter(self, address: str, *, through_proxy: bool = False) -> Entry | None:
        """Count a connection in.

        Args:
            address: the peer's.
            through_proxy: the peer is a trusted proxy; whom it stands for is not known yet, so it
                counts as somebody of its own until :meth:`move`.

        Returns:
            None if there is no place for it: the caller closes it.
        """
        if not self.accepting:
            return None
        if through_proxy:
            self._numbers += 1
            group, known = f"{_PROXY} {self._numbers}", True
        else:
            group = peer_group(address)
            known = self.is_known(address)
            if not self._may_come(group, known=known):
                return None
        entry = Entry(address, group, known=known, began_s=self._clock())
        if not self._take(entry):
            return None
        self._inside[entry] = None
        return entry

    def move(self, entry: Entry, address: str) -> bool:
        """Count a connection for the address that a trusted proxy forwarded.

        Returns:
            False if that address has no place left; the caller then answers and closes.
        """
        if not entry.inside:
            return False
        group, known = peer_group(address), self.is_known(address)
        self.leave(entry)
        moved = Entry(address, group, known=known, began_s=entry.began_s)
        if not self._may_come(group, known=known) or not self._take(moved):
            return False
        entry.address, entry.group, entry.network = address, group, moved.network
        entry.known, entry.inside = known, True
        self._inside[entry] = None
        return True

    def leave(self, entry: Entry) -> None:
        """Count a connection out, signed in or gone; a second call does nothing."""
        if entry.inside:
            entry.inside = False
            del self._inside[entry]
            self._slots.give_back(**_holders(entry))

    def signed_in(self, entry: Entry) -> None:
        """Count a connection out whose peer proved a key, and remember where it came from."""
        self.leave(entry)
        self.remember([entry.address])

    def remember(self, addresses: Iterable[str]) -> None:
        """Keep places for addresses from which a key signed in, the latest last.

        At most 10,000: an address that is forgotten is a stranger again, no more.
        """
        for address in addresses:
            group = peer_group(address)
            self._known[group] = self._clock()
            self._known.move_to_end(group)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def is_known(self, address: str) -> bool:
        """Return whether a key signed in from an address within a day."""
        at = self._known.get(peer_group(address))
        return at is not None and self._clock() - at < self._limits.known_seconds

    def sweep(self) -> None:
        """Cut who is silent or takes too long; called about every second.

        While the loop itself is late nobody is cut for silence: what they sent may not be read.
        """
        now = self._clock()
        late, self._swept_s = now - self._swept_s > 3, now
        for entry in list(self._inside):
            age = now - entry.began_s
            silent = age > self._limits.key_exchange_seconds and not entry.has_spoken()
            if age > self._limits.login_seconds + 1 or (silent and not late):
                self._end(entry, "silent")

    def make_room(self) -> bool:
        """End one connection because descriptors are short; False if there is none to end."""
        found = _first_to_go(list(self._inside), None)
        if found is not None:
            count_refusal("hub_handshakes", "descriptors")
            self._end(found, "displaced")
        return found is not None

    def _may_come(self, group: str, *, known: bool) -> bool:
        """Count a connection for the rate of its address."""
        try:
            self._rate.spend(group)
        except BudgetError as exc:
            return known and exc.by == "all"  # too many strangers are counted: not its fault
        return True

    def _take(self, entry: Entry) -> bool:
        """Take a place; whoever holds most makes room if there is none."""
        by = self._slots.try_take(**_holders(entry))
        if by and (found := self._who_goes(entry, by)) is not None:
            count_refusal("hub_handshakes", by)
            self._end(found, "displaced")
            by = self._slots.try_take(**_holders(entry))
        if by:
            count_refusal("hub_handshakes", by)
        return not by

    def _who_goes(self, newcomer: Entry, by: str) -> Entry | None:
        """Return who makes room for a newcomer; None if it has to go itself."""
        inside = list(self._inside)
        if newcomer.network == _PROXY:
            late = self._clock() - _ASKS_WITHIN_SECONDS
            waiting = (one for one in inside if one.network == _PROXY and one.began_s < late)
            if (found := next(waiting, None)) is not None:
                return found
        if by == "address":
            return None
        strangers = [one for one in inside if not one.known]
        return _first_to_go(strangers if by == "stranger" or strangers else inside, newcomer)

    def _end(self, entry: Entry, end: End) -> None:
        entry.end = end
        self.leave(entry)
        entry.abort()


def network_of(group: str) -> str:
    """Return the network of a group: an IPv4 /24 or an IPv6 /48; what is neither is its own."""
    address, _, _ = group.partition("/")
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return group
    prefix = 24 if found.version == 4 else 48
    return str(ipaddress.ip_network(f"{found}/{prefix}", strict=False))


def _holders(entry: Entry) -> dict[str, str | None]:
    return {"address": entry.group, "stranger": None if entry.known else "strangers"}


def _first_to_go(entries: list[Entry], newcomer: Entry | None) -> Entry | None:
    """Return the oldest entry of the group that holds most, in the network that holds most.

    Args:
        entries: who is in, the oldest first.
        newcomer: for whom; None if one has to go in any case.

    Returns:
        None if nobody holds more than the newcomer would: then the newcomer has no place.
    """
    if not entries:
        return None
    networks = Counter(one.network for one in entries)
    network, most = networks.most_common(1)[0]
    if newcomer is not None:
        own = networks[newcomer.network]
        if own == most:  # as many as anybody: its own network decides
            network = newcomer.network
        elif most <= own + 1:
            return None
    groups = Counter(one.group for one in entries if one.network == network)
    group, held = groups.most_common(1)[0]
    if newcomer is not None and network == newcomer.network and held <= groups[newcomer.group] + 1:
        return None
    return next(one for one in entries if one.group == group)
