"""The gateway for pulls: HTTP CONNECT to ``<service>.<cluster>`` on a unix socket or a TCP port.

Only CONNECT: after ``200`` bytes are piped both ways and never inspected, so nothing can be
smuggled between clusters and everything streams. The target is a name in the live registry,
never an address and never DNS. Answers (``docs/tunnel.md``): 400 bad request, 403 not allowed,
404 unknown cluster, 407 no valid token, 429 limit, 502 target refused, 503 no tunnel, 504 open
timed out; ``X-Tunnel-Error`` holds a stable code and ``X-Tunnel-Reason`` a sentence.
"""

from __future__ import annotations

import asyncio
import http
import logging
import time
from collections.abc import Awaitable, Callable
from typing import cast
from uuid import UUID

import asyncssh
from asyncssh.forward import SSHForwarder

from clusters.tunnel.counters import Counters
from clusters.tunnel.gateway_tokens import check_token
from clusters.tunnel.hub.channels import Channel, Opener, OpenError
from clusters.tunnel.hub.limits import Limits
from clusters.tunnel.hub.sessions import Session
from clusters.tunnel.protocol import SERVICE_PORTS
from opscenter.core.text import one_line

logger = logging.getLogger(__name__)

_HEAD_END = b"\r\n\r\n"
_EARLY_BYTES = 64 * 1024  # what a client may send before its 200


class Gateway:
    """What the connections of all clients share."""

    def __init__(
        self,
        opener: Opener,
        limits: Limits,
        counters: Counters,
        cluster_exists: Callable[[UUID], Awaitable[bool]],
    ) -> None:
        self.opener = opener
        self.limits = limits
        self.counters = counters
        self.cluster_exists = cluster_exists
        self.draining = False
        self.connections: set[GatewayConnection] = set()

    def protocol(self) -> GatewayConnection:
        """Return the protocol of a new connection, for asyncio's servers."""
        return GatewayConnection(self)

    def sweep(self) -> None:
        """End streams that moved nothing for too long, or that are too old."""
        now = time.monotonic()
        for connection in list(self.connections):
            connection.end_if_overdue(now)

    def piping(self) -> int:
        """Return how many clients are connected to a service now."""
        return sum(1 for connection in self.connections if connection.channel is not None)

    def abort_all(self) -> None:
        """End every connection at once."""
        for connection in list(self.connections):
            connection.abort()


class ChannelSide(SSHForwarder):
    """The tunnel's side of a pipe; holds what arrives until the client has its 200."""

    def __init__(self, connection: GatewayConnection) -> None:
        super().__init__()
        self._connection = connection

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Pass bytes to the client."""
        self._connection.count("down", len(data))
        super().data_received(data, datatype)

    def attach(self, connection: GatewayConnection) -> None:
        """Join the two sides and pass on what came early."""
        self.set_peer(connection)
        early, self._inpbuf = self._inpbuf, b""
        if early:
            connection.write(early)
        if self.was_eof_received():
            connection.write_eof()


class GatewayConnection(SSHForwarder):
    """One connection to the gateway: a head, then a pipe."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway
        self._head = b""
        self._task: asyncio.Task[None] | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._session: Session | None = None
        self._started = time.monotonic()
        self._moved = self._started
        self.channel: Channel | None = None

    # --- the client's side of the pipe --------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the head, with a deadline."""
        super().connection_made(transport)
        self._gateway.connections.add(self)
        self._head_timer = asyncio.get_running_loop().call_later(
            self._gateway.limits.head_seconds, self._answer, 400, "bad_request", "no request came"
        )

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Collect the head, then pass bytes to the channel."""
        if self._task is not None:
            self.count("up", len(data))
            super().data_received(data, datatype)
            if self._peer is None and len(self._inpbuf) > _EARLY_BYTES:
                self.abort()
            return
        self._head += data
        head, found, rest = self._head.partition(_HEAD_END)
        if found and len(head) <= self._gateway.limits.head_bytes:
            self._inpbuf = rest
            self._start(head)
        elif found or len(self._head) > self._gateway.limits.head_bytes:
            self._answer(400, "bad_request", "the request's head is too long")

    def eof_received(self) -> bool:
        """End the pipe: HTTP clients do not half-close, so a client that ends is gone.

        Waiting for the service to end as well would let clients that gave up on a slow service
        use up the tunnel's streams.
        """
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Abandon an open that is under way and release the channel."""
        self._gateway.connections.discard(self)
        self._cancel_head_timer()
        if self._task is not None:
            self._task.cancel()
        if self.channel is not None:
            # Not close(): that waits for a target that stopped reading to take the rest.
            self.channel.abort()
        super().connection_lost(exc)
        self._release()

    def close(self) -> None:
        """Close both sides and release the channel's slot."""
        super().close()
        self._release()

    def abort(self) -> None:
        """End both sides at once, dropping what is queued."""
        if self.channel is not None:
            self.channel.abort()
        transport = self._transport
        self.close()
        if transport is not None:
            transport.abort()

    def count(self, direction: str, size: int) -> None:
        """Note that bytes moved."""
        self._moved = time.monotonic()
        self._gateway.counters.bytes.labels(direction=direction).inc(size)

    def end_if_overdue(self, now: float) -> None:
        """Abort a pipe that is idle or too old."""
        limits = self._gateway.limits
        if self.channel is None:
            return
        if now - self._moved > limits.idle_seconds:
            self._gateway.counters.gateway_overdue.labels(reason="idle").inc()
            self.abort()
        elif now - self._started > limits.life_seconds:
            self._gateway.counters.gateway_overdue.labels(reason="life").inc()
            self.abort()

    def _release(self) -> None:
        session, self._session, self.channel = self._session, None, None
        if session is not None:
            self._gateway.opener.closed(session)

    # --- the request --------------------------------------------------------------------------

    def _start(self, head: bytes) -> None:
        self._cancel_head_timer()
        self._task = asyncio.get_running_loop().create_task(self._serve(head))
        self._task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        """Never leave a client without an answer, even after an unexpected error."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a request to the gateway failed", exc_info=error)
            self.abort()

    async def _serve(self, head: bytes) -> None:
        try:
            cluster_id, service = await self._authorize(head)
            side: list[ChannelSide] = []

            def factory() -> asyncssh.SSHTCPSession[bytes]:
                side.append(ChannelSide(self))
                # SSHForwarder is what asyncssh itself uses as a session of forwarded channels.
                return cast("asyncssh.SSHTCPSession[bytes]", side[0])

            session, channel = await self._gateway.opener.open(cluster_id, service, factory)
        except OpenError as exc:
            self._answer(exc.status, exc.code, exc.reason)
            return
        if self._transport is None:  # the client left in this iteration of the loop
            channel.abort()
            self._gateway.opener.closed(session)
            return
        self._session, self.channel = session, channel
        self._gateway.counters.gateway_requests.labels(code="200").inc()
        self.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        early, self._inpbuf = self._inpbuf, b""
        self.set_peer(side[0])
        if early:
            side[0].write(early)
        side[0].attach(self)

    async def _authorize(self, head: bytes) -> tuple[UUID, str]:
        """Check the request and its token; return the cluster and service that it may reach."""
        target, token = _parse_head(head)
        cluster_id, service = _parse_target(target)
        allowed = check_token(token, cluster_id, service) if token else None
        if allowed is None:
            raise OpenError(407, "token", "the token is missing, forged or too old")
        if not allowed:
            raise OpenError(403, "not_allowed", "the token is for another cluster or service")
        if self._gateway.draining:
            raise OpenError(503, "draining", "the hub is shutting down")
        if not await self._gateway.cluster_exists(cluster_id):
            raise OpenError(404, "unknown_cluster", "there is no such cluster")
        return cluster_id, service

    def _answer(self, status: int, code: str, reason: str) -> None:
        """Refuse with one short answer and close."""
        self._cancel_head_timer()
        self._gateway.counters.gateway_requests.labels(code=str(status)).inc()
        headers = [
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
            f"X-Tunnel-Error: {code}",
            f"X-Tunnel-Reason: {one_line(reason, 200).encode('ascii', 'replace').decode()}",
            "Content-Length: 0",
            "Connection: close",
        ]
        if status == 407:
            headers.append("Proxy-Authenticate: Bearer")
        if status in (429, 503):
            headers.append("Retry-After: 5")
        self.write(("\r\n".join(headers) + "\r\n\r\n").encode("ascii"))
        self.close()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _parse_head(head: bytes) -> tuple[str, str]:
    """Return a CONNECT request's target and its bearer token ("" if there is none)."""
    try:
        request, *lines = head.decode("ascii").split("\r\n")
        method, target, version = request.split(" ")
    except ValueError:
        raise OpenError(400, "bad_request", "that is not an HTTP request") from None
    if method != "CONNECT" or not version.startswith("HTTP/1."):
        raise OpenError(400, "bad_request", "only CONNECT is served here")
    token = ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "proxy-authorization":
            kind, _, token = value.strip().partition(" ")
            if kind.lower() != "bearer":
                token = ""
    return target, token


def _parse_target(target: str) -> tuple[UUID, str]:
    """Return the cluster and the service of ``<service>.<cluster uuid>:<port>``."""
    host, _, port = target.rpartition(":")
    service, _, cluster = host.partition(".")
    try:
        cluster_id = UUID(cluster)
    except ValueError:
        raise OpenError(
            400, "bad_request", "the target is not <service>.<cluster>:<port>"
        ) from None
    if service not in SERVICE_PORTS or port != str(SERVICE_PORTS[service]):
        raise OpenError(400, "bad_request", "there is no such service and port")
    return cluster_id, service
