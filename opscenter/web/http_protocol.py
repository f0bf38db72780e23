"""uvicorn's HTTP protocol, with limits on clients that only hold connections open.

A few hundred connections that send a byte now and then would use up the server's limit for
everybody: uvicorn waits for ever for a request, a body and a reader. ``manage.py up`` starts the
web process with this class (``--http``); it counts connections itself
(:mod:`opscenter.web.connections`), so uvicorn's own limit, which is one for all, is not used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from functools import partial
from typing import Any

import h11
from django.conf import settings
from uvicorn.protocols.http.h11_impl import H11Protocol

from opscenter.core.budgets import BudgetError, peer_group
from opscenter.web import connections
from opscenter.web.request_log import PROXY_STATE
from opscenter.web.websocket_protocol import CLOSE_SECONDS, BoundedWebSocket

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 20.0
"""From the connection, or a request's first byte, to the end of its body."""
ANSWER_SECONDS = 300.0
"""From there to the last byte of the answer, over the slowest link."""

PIECE_BYTES = 32 * 1024
"""Read at once from one connection, so that hundreds that send bodies leave the loop to others."""

_FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_UNFINISHED = (h11.IDLE, h11.SEND_BODY)


class BoundedProtocol(H11Protocol):
    """One connection whose requests and answers take a bounded time."""

    request_seconds = REQUEST_SECONDS
    answer_seconds = ANSWER_SECONDS
    table = connections.table
    rate = connections.NEW_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock and take a place; a peer for whom there is none is told so."""
        super().connection_made(transport)
        transport.max_size = PIECE_BYTES  # type: ignore[attr-defined] # asyncio's, not in its types
        self._clock: asyncio.TimerHandle | None = None
        self._answering = False
        self._seat: connections.Seat | None = None
        peer = "" if self.client is None else self.client[0]
        is_proxy = is_trusted_proxy(peer)
        if is_proxy:
            self.app_state = {**self.app_state, PROXY_STATE: True}  # of this connection only
        try:
            self.rate.spend(None if is_proxy else peer_group(peer) or None)
        except BudgetError:
            transport.abort()
            return
        try:
            self._seat = self.table.enter(
                self, peer_group(peer), is_proxy=is_proxy,
                reserve=is_proxy or _is_own_machine(self.client, self.server),
            )  # fmt: skip
        except BudgetError as exc:
            _end(self.loop, transport, _refusal(exc))
            return
        self._restart(self.request_seconds)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock runs until the request is whole, then until its answer is."""
        super().data_received(data)
        if self._seat is None:  # a WebSocket from here on
            return
        if self.conn.their_state not in _UNFINISHED:
            self._begin_answer()
        elif self._clock is None:
            self._restart(self.request_seconds)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection and its place over to the WebSocket's protocol.

        Without a session's cookie it is refused here, for a fraction of what the handshake costs.
        """
        self._stop()
        if not self._has_session():
            _end(self.loop, self.transport, _FORBIDDEN)
            return
        seat, self._seat = self._seat, None
        made: Any = partial(BoundedWebSocket, seat=seat)
        self.ws_protocol_class = made
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Stop the clock: uvicorn's own keep-alive time runs until the next request.

        It runs on while the peer has not read all: a connection that is to be closed stays until
        then.
        """
        if not self.transport.get_write_buffer_size():
            self._stop()
        self._answering = False
        if self._seat is not None:
            self._seat.waits()
        super().on_response_complete()
        if self.conn.their_state not in _UNFINISHED:  # a request that was sent ahead
            self._begin_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop()
        if self._seat is not None:
            self._seat.leave()
        super().connection_lost(exc)

    def drop(self) -> None:
        """End the connection at once: somebody else needs its place more."""
        self._stop()
        self.transport.abort()

    def _has_session(self) -> bool:
        """Return whether the request has a cookie that could be a session's."""
        wanted = f"{settings.SESSION_COOKIE_NAME}=".encode()
        return any(name == b"cookie" and wanted in value for name, value in self.headers)

    def _begin_answer(self) -> None:
        """Note that a whole request is here and is being answered."""
        if self._answering or self._seat is None or self.transport.is_closing():
            return
        self._answering = True
        self._seat.works()
        self._restart(self.answer_seconds)

    def _restart(self, seconds: float) -> None:
        self._stop()
        self._clock = self.loop.call_later(seconds, self._too_slow)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        self._clock = None
        logger.debug("a connection from %s was too slow and is closed", self.client)
        self.transport.abort()


def is_trusted_proxy(address: str) -> bool:
    """Return whether ``OPSCENTER_TRUSTED_PROXIES`` holds an address."""
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:  # "" of a unix socket, a name of a test client
        return False
    return any(
        peer in ipaddress.ip_network(known, strict=False) for known in settings.TRUSTED_PROXIES
    )


def _is_own_machine(client: tuple[str, int] | None, server: tuple[str, int | None] | None) -> bool:
    """Return whether a peer connects from the very address that it connects to."""
    return client is not None and server is not None and client[0] == server[0]


def _refusal(error: BudgetError) -> bytes:
    """Return the answer to whoever gets no place, whatever it may ask."""
    text = f"{error}\n".encode()
    lines = [
        "HTTP/1.1 503 Service Unavailable", "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(text)}", "Connection: close",
        *(f"{name}: {value}" for name, value in error.headers().items()),
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode() + text


def _end(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, answer: bytes) -> None:
    """Send a last answer and end the connection, soon also if the peer does not read it."""
    transport.write(answer)
    transport.close()
    if transport.get_write_buffer_size():
        loop.call_later(CLOSE_SECONDS, transport.abort)
