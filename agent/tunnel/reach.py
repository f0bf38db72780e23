"""How far away an address is: the centre may not send the agent closer than it is itself.

Whoever controls the centre chooses what an agent dials. A centre on the internet has no business
with addresses inside the customer's network or on the agent's own machine, so those are refused:
as they stand in an enrolment's answer, and again when a name has been looked up.
"""

from __future__ import annotations

import ipaddress
import socket
from enum import Enum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Reach(Enum):
    """From how near an address can be reached; the values are stored in the enrolment."""

    INTERNET = "internet"
    NETWORK = "network"  # private: RFC 1918, shared address space, unique local
    LINK = "link"  # link-local; clouds answer with their machines' credentials there
    MACHINE = "machine"  # loopback, and the unspecified address, which Linux takes for it
    NOWHERE = "nowhere"  # multicast, reserved: never a hub

    def may_name(self, other: Reach) -> bool:
        """Return whether a centre that was reached like this may name an address like ``other``."""
        return other in _NAMED[self]


_NAMED: dict[Reach, frozenset[Reach]] = {
    Reach.INTERNET: frozenset({Reach.INTERNET}),
    Reach.NETWORK: frozenset({Reach.INTERNET, Reach.NETWORK}),
    Reach.LINK: frozenset({Reach.INTERNET, Reach.NETWORK, Reach.LINK}),
    # Not link-local: a centre on this machine is no reason to ask the cloud for credentials.
    Reach.MACHINE: frozenset({Reach.INTERNET, Reach.NETWORK, Reach.MACHINE}),
    Reach.NOWHERE: frozenset(),
}


def reach_of(address: Address) -> Reach:
    """Return how near an address is; one that only wraps an IPv4 address is judged by that."""
    inner = _wrapped(address)
    if inner is not None:
        return reach_of(inner)
    if address.is_loopback or address.is_unspecified:
        return Reach.MACHINE
    if address.is_link_local:
        return Reach.LINK
    if address.is_multicast:
        return Reach.NOWHERE
    if address.is_global:
        return Reach.INTERNET
    if address.is_reserved:
        return Reach.NOWHERE
    return Reach.NETWORK


def literal_reach(host: str) -> Reach | None:
    """Return how near a host is that is written as an address; None for a name."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return Reach.MACHINE
    address = _parsed(name.partition("%")[0])
    return None if address is None else reach_of(address)


def _parsed(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        # The system's look-up also takes 127.1, 0x7f000001 and 2130706433.
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        return None


def _wrapped(address: Address) -> Address | None:
    """Return the IPv4 address inside an IPv6 one: mapped, 6to4 or NAT64; None if there is none."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
