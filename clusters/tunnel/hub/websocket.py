"""SSH inside a WebSocket, for sites whose firewall lets only HTTPS out.

The bytes inside are the same SSH with the same host key, so that a proxy that terminates TLS sees
only ciphertext and cannot stand in for either end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import cast

import aiohttp
import asyncssh
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from clusters.tunnel.hub.connection import BoundedConnection
from clusters.tunnel.hub.connection_stats import WebSocketLink, bound_unacknowledged
from clusters.tunnel.hub.door import Door, Entry
from clusters.tunnel.hub.listeners import enter_door
from clusters.tunnel.hub.server import HubContext, HubServer
from clusters.tunnel.protocol import WEBSOCKET_PATH, WEBSOCKET_PROTOCOL

logger = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_MAX_MESSAGE = 1024 * 1024
_CLOSE_SECONDS = 2.0  # how long a peer may take to answer our close


class WebSocketEntry:
    """Serves the WebSocket address of the hub."""

    def __init__(self, context: HubContext, options: asyncssh.SSHServerConnectionOptions) -> None:
        self._context = context
        self._options = options
        self._entries: dict[RequestHandler, Entry] = {}
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            shutdown_timeout=1,
            keepalive_timeout=0,
            lingering_time=0,
        )

    async def setup(self) -> None:
        """Make ready to serve connections."""
        await self._runner.setup()

    async def cleanup(self) -> None:
        """End every connection."""
        await self._runner.cleanup()

    async def serve(self, sock: socket.socket, address: str) -> None:
        """Serve one accepted connection; return once it is set up."""
        through_proxy = self._context.proxies.is_trusted(address)
        entry = enter_door(self._context.door, sock, address, through_proxy=through_proxy)
        server = self._runner.server
        if entry is None or server is None:
            self._context.counters.handshakes.labels(result="shed").inc()
            sock.close()
            return
        loop = asyncio.get_running_loop()
        handler = _Counted(server(), entry, self._context.door, self._entries)
        try:
            await loop.connect_accepted_socket(lambda: handler, sock)
        except OSError as exc:
            logger.debug("a connection ended before it began: %s", exc)
            self._context.door.leave(entry)
            sock.close()

    def _application(self) -> web.Application:
        """Return the web application with its one route; what is no WebSocket is closed."""
        app = web.Application(client_max_size=0)
        app.router.add_get(WEBSOCKET_PATH, self._handle)
        app.on_response_prepare.append(_close_afterwards)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(
            protocols=(WEBSOCKET_PROTOCOL,),
            compress=False,
            max_msg_size=_MAX_MESSAGE,
            timeout=_CLOSE_SECONDS,
        )
        if not ws.can_prepare(request).ok:
            return web.Response(status=426, text="This address speaks SSH inside a WebSocket.\n")
        entry = self._entries.get(request.protocol)
        if entry is None or not self._admit(request, entry):
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
        server = HubServer(self._context, transport="wss", entry=entry)
        server.behind_unknown_proxy = entry.address == request.remote and bool(
            self._forwarded(request)
        )
        await self._serve(ws, WebSocketLink(sock), server)
        return ws

    def _admit(self, request: web.Request, entry: Entry) -> bool:
        """Count the connection for the agent's address; False if that has no place left.

        The agent's address is the peer's, or the one that a trusted proxy forwards.
        """
        if not self._context.door.accepting or not entry.inside:
            return False
        peer, forwarded = request.remote or "", self._forwarded(request)
        if not self._context.proxies.is_trusted(peer):
            if forwarded:
                self._context.proxies.seen(peer)
            return True
        return self._context.door.move(entry, forwarded or peer)

    def _forwarded(self, request: web.Request) -> str:
        return self._context.proxies.forwarded(request.headers.get("X-Forwarded-For", ""))

    async def _serve(
        self, ws: web.WebSocketResponse, link: WebSocketLink, server: HubServer
    ) -> None:
        """Run one SSH server connection over the WebSocket until either ends."""
        try:
            inner, outer = socket.socketpair()
        except OSError as exc:
            logger.debug("no descriptors for a WebSocket: %s", exc)
            await ws.close(code=1013, message=b"try again later")
            return
        reader, writer = await asyncio.open_connection(sock=outer)
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
        loop = asyncio.get_running_loop()
        options = asyncssh.SSHServerConnectionOptions(
            options=self._options, server_factory=lambda: server
        )
        try:
            _, connection = await loop.connect_accepted_socket(
                lambda: BoundedConnection(loop, options), inner
            )
        except OSError as exc:
            logger.debug("a WebSocket ended before SSH began: %s", exc)
            inner.close()
            return
        try:
            await connection.wait_closed()
        finally:
            connection.abort()


class _Counted(asyncio.Protocol):
    """aiohttp's protocol of one connection, which counts out when it ends."""

    def __init__(
        self,
        handler: RequestHandler,
        entry: Entry,
        door: Door,
        entries: dict[RequestHandler, Entry],
    ) -> None:
        self._handler = handler
        self._entry = entry
        self._door = door
        self._entries = entries
        self.data_received = handler.data_received  # type: ignore[method-assign]
        self.eof_received = handler.eof_received  # type: ignore[method-assign]
        self.pause_writing = handler.pause_writing  # type: ignore[method-assign]
        self.resume_writing = handler.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless the place was lost meanwhile."""
        self._entries[self._handler] = self._entry
        self._handler.connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            self._entry.abort = transport.abort
            if not self._entry.inside:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection out."""
        self._entries.pop(self._handler, None)
        self._door.leave(self._entry)
        self._handler.connection_lost(exc)


async def _close_afterwards(request: web.Request, response: web.StreamResponse) -> None:
    """Keep no connection whose answer is no WebSocket."""
    del request
    if not isinstance(response, web.WebSocketResponse):
        response.force_close()


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
