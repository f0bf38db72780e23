"""What the kernel and the relay know of a session's connection: its last data and its round trip.

SSH itself does not say when a peer last sent something. On a TCP connection the kernel does
(``TCP_INFO``, tcp(7)); inside a WebSocket the relay sees every message.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Protocol

_TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux only
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
# struct tcp_info, linux/tcp.h: 8 bytes of flags, then 32-bit counters.
_LAST_DATA_RECV_OFFSET = 8 + 4 * 11  # milliseconds ago
_RTT_OFFSET = 8 + 4 * 15  # microseconds, smoothed


class SocketOptions(Protocol):
    """The part of a socket that asyncio's TransportSocket offers too."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return a socket option as bytes."""
        ...


class Link(Protocol):
    """A session's connection, whatever carries it."""

    def rtt_ms(self) -> float | None:
        """Return the network's round trip in milliseconds; None when it is not known."""
        ...

    def silent_seconds(self) -> float | None:
        """Return for how long the peer has sent nothing; None when it is not known.

        A duration, so that a clock that is set does not make a silent peer speak.
        """
        ...


class TcpLink:
    """A direct TCP connection, as the kernel sees it."""

    def __init__(self, sock: SocketOptions | None) -> None:
        self._sock = sock

    def rtt_ms(self) -> float | None:
        """Return the kernel's smoothed round trip in milliseconds; None once closed."""
        info = self._info()
        return None if info is None else round(_u32(info, _RTT_OFFSET) / 1000, 3)

    def silent_seconds(self) -> float | None:
        """Return for how long no data came from the peer; None once closed."""
        info = self._info()
        return None if info is None else _u32(info, _LAST_DATA_RECV_OFFSET) / 1000

    def _info(self) -> bytes | None:
        if self._sock is None or _TCP_INFO is None:
            return None
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 104)
        except OSError:  # closed, or not TCP
            return None
        return info if len(info) >= _RTT_OFFSET + 4 else None


class WebSocketLink:
    """A WebSocket: behind a proxy the round trip is the proxy's, the messages are the agent's."""

    def __init__(self, sock: SocketOptions | None) -> None:
        self._tcp = TcpLink(sock)
        self._received_s = time.monotonic()

    def received(self) -> None:
        """Note that a message has just arrived."""
        self._received_s = time.monotonic()

    def rtt_ms(self) -> float | None:
        """Return the round trip of the TCP connection that ends here; None once closed."""
        return self._tcp.rtt_ms()

    def silent_seconds(self) -> float | None:
        """Return for how long no message came."""
        return time.monotonic() - self._received_s


def bound_unacknowledged(sock: socket.socket, seconds: float) -> None:
    """Let the kernel drop a connection whose sent data stays unacknowledged for this long."""
    if _TCP_USER_TIMEOUT is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(seconds * 1000))


def _u32(info: bytes, offset: int) -> int:
    value: int = struct.unpack_from("=I", info, offset)[0]
    return value
