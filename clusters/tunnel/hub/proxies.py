"""Which peers of the WebSocket port are proxies that we believe, and who seems to be one."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Sequence

logger = logging.getLogger(__name__)

_LINE_SECONDS = 60.0


class Proxies:
    """The trusted proxies, and the last peer that forwarded an address without being one.

    A stranger can send ``X-Forwarded-For`` too. So a peer with a public address is noted only once
    an agent has signed in through it.

    Args:
        trusted: addresses and networks.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted = [ipaddress.ip_network(one, strict=False) for one in trusted]
        self.last_unknown_s: float | None = None  # Unix time
        self._said_s = float("-inf")

    def is_trusted(self, peer: str) -> bool:
        """Return whether an address is one of ours to believe; what is no address is not."""
        address = _address(peer)
        return address is not None and any(address in network for network in self._trusted)

    def forwarded(self, header: str) -> str:
        """Return the address that the nearest proxy names in a header; "" if there is none."""
        address = _address(header.rpartition(",")[2].strip())
        return "" if address is None else str(address)

    def seen(self, peer: str) -> None:
        """Note a request with a forwarded address from a peer that is not trusted."""
        address = _address(peer)
        if address is not None and address.is_private:
            self._note(peer)

    def signed_in(self, peer: str) -> None:
        """Note that an agent signed in through such a peer."""
        self._note(peer)

    def _note(self, peer: str) -> None:
        self.last_unknown_s = time.time()
        if time.monotonic() - self._said_s >= _LINE_SECONDS:
            self._said_s = time.monotonic()
            logger.warning(
                "X-Forwarded-For from %s is ignored, which is not in OPSCENTER_HUB_TRUSTED_PROXIES:"
                " all agents behind it count as one address",
                peer,
            )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address; an IPv4 one also where it is written as IPv6. None if it is none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
