"""SSH inside a WebSocket, for sites whose firewall lets only HTTPS out.

The bytes inside are the same SSH with the same host key, so that a proxy that terminates TLS sees
only ciphertext and cannot stand in for either end.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Iterable, Sequence
from typing import cast
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
import asyncssh
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from clusters.tunnel.hub.connection_stats import WebSocketLink, bound_unacknowledged
from clusters.tunnel.hub.server import HubContext, HubServer
from clusters.tunnel.protocol import WEBSOCKET_PATH, WEBSOCKET_PROTOCOL

logger = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_MAX_MESSAGE = 1024 * 1024


class WebSocketEntry:
    """Serves the WebSocket address of the hub."""

    def __init__(
        self,
        context: HubContext,
        options: asyncssh.SSHServerConnectionOptions,
        *,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._context = context
        self._options = options
        self._trusted = [ipaddress.ip_network(one, strict=False) for one in trusted_proxies]
        # Connections that sent a request; the others are timed from when they were first seen.
        self._asked: WeakSet[asyncio.BaseTransport] = WeakSet()
        self._silent: WeakKeyDictionary[asyncio.BaseTransport, float] = WeakKeyDictionary()

    def application(self) -> web.Application:
        """Return the web application with its one route."""
        app = web.Application(client_max_size=0)
        app.router.add_get(WEBSOCKET_PATH, self._handle)
        return app

    def sweep(self, connections: Iterable[RequestHandler]) -> None:
        """Close connections that sent no complete request for as long as a login may take."""
        now = time.monotonic()
        for handler in connections:
            transport = handler.transport
            if transport is None or transport in self._asked:
                continue
            if now - self._silent.setdefault(transport, now) > self._context.limits.login_seconds:
                transport.abort()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            self._asked.add(request.transport)
        ws = web.WebSocketResponse(
            protocols=(WEBSOCKET_PROTOCOL,), compress=False, max_msg_size=_MAX_MESSAGE
        )
        if not ws.can_prepare(request).ok:
            return web.Response(status=426, text="This address speaks SSH inside a WebSocket.\n")
        if (
            not self._context.accepting
            or self._context.pending >= self._context.limits.pending_handshakes
        ):
            self._context.counters.handshakes.labels(result="shed").inc()
            return web.Response(status=503, headers={"Retry-After": "5"})
        await ws.prepare(request)
        if ws.ws_protocol != WEBSOCKET_PROTOCOL:
            await ws.close(code=1002, message=b"sub-protocol opscenter-ssh-v1 is required")
            return ws
        transport = request.transport
        sock = None if transport is None else transport.get_extra_info("socket")
        if sock is not None:
            bound_unacknowledged(sock, self._context.limits.keepalive_seconds * 3)
        await self._serve(ws, WebSocketLink(sock), self._address(request))
        return ws

    def _address(self, request: web.Request) -> str:
        """Return the agent's address: the one that a proxy forwards only if we trust the proxy."""
        peer = request.remote or ""
        forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        if not forwarded or not peer:
            return peer
        try:
            known = any(ipaddress.ip_address(peer) in network for network in self._trusted)
            return str(ipaddress.ip_address(forwarded)) if known else peer
        except ValueError:
            return peer

    async def _serve(self, ws: web.WebSocketResponse, link: WebSocketLink, address: str) -> None:
        """Run one SSH server connection over the WebSocket until either ends."""
        inner, outer = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=outer)
        server = HubServer(self._context, transport="wss", address=address)
        server.use_link(link)
        up = asyncio.create_task(_to_ssh(ws, link, writer))
        down = asyncio.create_task(_to_websocket(reader, ws))
        try:
            await self._run_ssh(inner, server)
        finally:
            # What SSH said last, such as why it disconnects, is still on its way.
            await asyncio.wait([down], timeout=1)
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            writer.transport.abort()
            await ws.close()

    async def _run_ssh(self, inner: socket.socket, server: HubServer) -> None:
        try:
            connection = await asyncssh.run_server(
                inner, config=None, options=self._options, server_factory=lambda: server
            )
        except (asyncssh.Error, OSError) as exc:
            logger.debug("a WebSocket client did not sign in: %s", exc)
            inner.close()
            return
        try:
            await connection.wait_closed()
        finally:
            connection.abort()


async def _to_ssh(
    ws: web.WebSocketResponse, link: WebSocketLink, writer: asyncio.StreamWriter
) -> None:
    """Pass messages on as bytes; anything but a binary message ends the connection."""
    try:
        async for message in ws:
            if message.type != aiohttp.WSMsgType.BINARY:
                break
            link.received()
            writer.write(cast("bytes", message.data))
            await writer.drain()
    except OSError as exc:
        logger.debug("a WebSocket relay ended: %s", exc)
    finally:
        writer.close()


async def _to_websocket(reader: asyncio.StreamReader, ws: web.WebSocketResponse) -> None:
    """Pass bytes on as binary messages, as fast as the WebSocket takes them."""
    try:
        while chunk := await reader.read(_CHUNK):
            await ws.send_bytes(chunk)
    except (OSError, RuntimeError, aiohttp.ClientError) as exc:
        logger.debug("a WebSocket relay ended: %s", exc)
