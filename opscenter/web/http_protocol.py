"""uvicorn's HTTP protocol, with limits on clients that only hold connections open.

A few hundred connections that send a byte now and then would use up the server's limit for
everybody: uvicorn waits for ever for a request, a body and a reader. ``manage.py up`` starts the
web process with this class (``--http``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter

import h11
from django.conf import settings
from uvicorn.protocols.http.h11_impl import H11Protocol

from opscenter.web.request_log import PROXY_STATE

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 20.0
"""From the connection, or a request's first byte, to the end of its body."""
ANSWER_SECONDS = 300.0
"""From there to the last byte of the answer, over the slowest link."""
CONNECTIONS_PER_ADDRESS = 256
"""HTTP connections at once from one address that is no trusted proxy; sockets do not count."""

_UNFINISHED = (h11.IDLE, h11.SEND_BODY)
_open: Counter[str] = Counter()


class BoundedProtocol(H11Protocol):
    """One connection whose requests and answers take a bounded time."""

    request_seconds = REQUEST_SECONDS
    answer_seconds = ANSWER_SECONDS
    per_address = CONNECTIONS_PER_ADDRESS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock; refuse an address that holds too many connections already."""
        super().connection_made(transport)
        self._clock: asyncio.TimerHandle | None = None
        self._answering = False
        self._counted = "" if self.client is None else self.client[0]
        if is_trusted_proxy(self._counted):
            self._counted = ""
            self.app_state = {**self.app_state, PROXY_STATE: True}  # of this connection only
        if self._counted:
            _open[self._counted] += 1
            if _open[self._counted] > self.per_address:
                transport.abort()
                return
        self._restart(self.request_seconds)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock runs until the request is whole, then until its answer is."""
        super().data_received(data)
        if self.transport.get_protocol() is not self:  # a WebSocket from here on
            self._leave()
        elif self.conn.their_state in _UNFINISHED:
            if self._clock is None:
                self._restart(self.request_seconds)
        elif not self._answering and not self.transport.is_closing():
            self._answering = True
            self._restart(self.answer_seconds)

    def on_response_complete(self) -> None:
        """Stop the clock: uvicorn's own keep-alive time runs until the next request."""
        self._stop()
        self._answering = False
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        super().connection_lost(exc)

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

    def _leave(self) -> None:
        self._stop()
        if self._counted:
            _open[self._counted] -= 1
            if _open[self._counted] <= 0:
                del _open[self._counted]
            self._counted = ""


def is_trusted_proxy(address: str) -> bool:
    """Return whether ``OPSCENTER_TRUSTED_PROXIES`` holds an address."""
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:  # "" of a unix socket, a name of a test client
        return False
    return any(
        peer in ipaddress.ip_network(known, strict=False) for known in settings.TRUSTED_PROXIES
    )
