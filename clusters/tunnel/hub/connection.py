"""One SSH connection whose peer cannot keep the event loop, nor fill memory with what it ignores.

asyncssh handles whatever it is given in one go, copies the rest of it for each packet, and answers
without regard to whether anybody reads. So a peer that sends the smallest packets as fast as it can
would stop the hub for everybody. Here it is given little at a time; nobody who has not signed in
sends more than a sign-in needs; and whoever does not read is not read either.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh

from opscenter.core.budgets import count_refusal

MAX_PACKETS = 100
"""Before the sign-in. A sign-in takes about ten, and two more for each key that is tried."""
MAX_BYTES = 64 * 1024
"""Before the sign-in; it takes about 6 KB."""

_STRANGERS_PIECE = 4 * 1024
_PIECE = 32 * 1024  # as much as the largest packet of a channel holds


class BoundedConnection(asyncssh.SSHServerConnection):
    """asyncssh's, with bounds on what one peer costs."""

    _socket: asyncio.Transport
    _packets = 0
    _bytes = 0
    _bounded = True  # nobody has signed in yet

    def connection_made(self, transport: Any) -> None:
        """Read little at a time, so that others have their turn in between."""
        self._socket = transport
        transport.max_size = _STRANGERS_PIECE
        super().connection_made(transport)

    def signed_in(self) -> None:
        """Lift the bounds of those who have yet to sign in."""
        self._bounded = False
        self._socket.max_size = _PIECE  # type: ignore[attr-defined] # asyncio's, not in its types

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        """Handle a piece, unless it is more than a sign-in needs."""
        self._bytes += len(data)
        if self._bounded and self._bytes > MAX_BYTES:
            self._cut("bytes")
        else:
            super().data_received(data, datatype)

    def pause_writing(self) -> None:
        """Read nothing while the peer does not take what it asked for."""
        self._socket.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._socket.resume_reading()

    def _recv_packet(self) -> bool:
        """Handle one packet; asyncssh calls this again and again until it returns False."""
        if self._bounded and self._packets >= MAX_PACKETS:
            self._cut("packets")
            return False
        handled = super()._recv_packet()
        self._packets += handled
        return handled

    def _cut(self, what: str) -> None:
        count_refusal("hub_handshakes", what)
        self.abort()
