"""Whom a limit on addresses counts as one: whoever can have any address of a group."""

from __future__ import annotations

import ipaddress

_HOST_PREFIX = 64  # the smallest network that a provider gives to one IPv6 customer


def peer_group(address: str) -> str:
    """Return the group of addresses that a limit counts as one peer.

    An IPv4 address is its own group, also when it is written as IPv6 (``::ffff:192.0.2.1``).
    An IPv6 address stands for its /64: one host may use any address of it. What is no address (""
    of a unix socket, the name of a test client) is a group by itself.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found), _HOST_PREFIX), strict=False))
