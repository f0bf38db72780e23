"""uvicorn's WebSocket protocol, with limits on peers that do not answer.

A socket keeps the place of its connection until it is known whose it is
(:func:`opscenter.web.shares.tell_known`); until then a clock runs. After our close the peer has a
second: uvicorn waits ten, and for ever if the peer does not read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from opscenter.web.shares import WHEN_KNOWN

if TYPE_CHECKING:
    from asyncio.transports import BaseTransport

    from uvicorn._types import ASGISendEvent

    from opscenter.web.connections import Seat

HANDSHAKE_SECONDS = 10.0
"""From the request for an upgrade until it is known whose socket it is."""
CLOSE_SECONDS = 1.0
"""From our close to the end of the connection, if the peer does not answer."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One socket: known within a time, and gone within a time after its close."""

    def __init__(self, *arguments: Any, seat: Seat | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._seat = seat
        self._clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Start the clock of the handshake."""
        super().connection_made(transport)
        self._abort_after(HANDSHAKE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._stop()
        self._leave()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """End a connection whose peer answers no ping, also if it does not read."""
        super().keepalive_timeout()
        self._abort_after(CLOSE_SECONDS)

    async def run_asgi(self) -> None:
        """Serve the socket; the application may say that its user is known."""
        scope: Any = self.scope
        scope[WHEN_KNOWN] = [self._known]
        try:
            await super().run_asgi()
        finally:
            self._abort_after(CLOSE_SECONDS)

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the application; a close has to be answered soon."""
        await super().send(message)
        if self.close_sent:
            self._abort_after(CLOSE_SECONDS)

    def _known(self) -> None:
        self._stop()
        self._leave()

    def _leave(self) -> None:
        if self._seat is not None:
            self._seat.leave()
            self._seat = None

    def _abort_after(self, seconds: float) -> None:
        self._stop()
        self._clock = self.loop.call_later(seconds, self.transport.abort)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
