"""SSH inside a WebSocket, for networks that let only HTTPS out.

Binary messages carry the SSH stream as it is; message boundaries mean nothing. asyncssh gets one
half of a socket pair, this module relays between the other half and the WebSocket. SSH keeps its
own keys end to end, so a proxy that terminates TLS sees only ciphertext.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from agent.reasons import reason_of
from agent.tunnel.egress import (
    CONNECT_SECONDS,
    EgressError,
    Proxy,
    check_reach,
    proxy_arguments,
    proxy_for,
    tls_context,
)
from agent.tunnel.reach import Reach

PROTOCOL = "opscenter-ssh-v1"
_CHUNK_BYTES = 64 * 1024
_MAX_MESSAGE_BYTES = 1024 * 1024


@contextlib.asynccontextmanager
async def carried_by_websocket(
    url: str, *, centre: Reach | None = None
) -> AsyncIterator[socket.socket]:
    """Yield a socket whose bytes travel in a WebSocket to ``url`` for as long as the block runs.

    The socket reads end-of-file when the WebSocket is gone.

    Args:
        url: the address.
        centre: how the centre that named it was reached; None if that is not known.

    Raises:
        EgressError: if no WebSocket can be opened within 10 s.
    """
    proxy = _proxy(url)
    session = aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        # A proxy may be as near as it likes: the customer chose it.
        connector=checked_connector(centre if proxy is None else None),
    )
    try:
        channel = await _open(session, url, proxy)
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)  # noqa: FBT003 - positional-only
            theirs.setblocking(False)  # noqa: FBT003 - positional-only
            pump = asyncio.create_task(_pump(channel, ours))
        except BaseException:
            ours.close()
            theirs.close()
            raise
        try:
            yield theirs
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            ours.close()  # theirs belongs to the caller, and now reads end-of-file
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await channel.close()
    finally:
        await session.close()


def checked_connector(centre: Reach | None, tried: list[str] | None = None) -> aiohttp.TCPConnector:
    """Return a connector that dials only what the centre may name, also after a redirect.

    Args:
        centre: how the centre was reached; None if everything may be dialled.
        tried: the addresses that are dialled are added to it, if given.
    """

    def factory(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        check_reach(str(address[0]), centre)
        if tried is not None:
            tried.append(str(address[0]))
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(socket_factory=factory)


def _proxy(url: str) -> Proxy | None:
    try:
        parts = urlsplit(url)
        scheme, default = ("https", 443) if parts.scheme == "wss" else ("http", 80)
        return proxy_for(parts.hostname or "", parts.port or default, scheme=scheme)
    except ValueError as exc:
        raise EgressError(f"{url}: {exc}") from exc


async def _open(
    session: aiohttp.ClientSession, url: str, proxy: Proxy | None
) -> aiohttp.ClientWebSocketResponse:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            channel: aiohttp.ClientWebSocketResponse = await session.ws_connect(
                url,
                protocols=(PROTOCOL,),
                compress=0,
                max_msg_size=_MAX_MESSAGE_BYTES,
                ssl=tls_context(),
                **proxy_arguments(proxy),
            )
    except TimeoutError as exc:
        raise EgressError(f"{url} did not answer within {CONNECT_SECONDS:.0f} s") from exc
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise EgressError(f"{url}: {reason_of(exc)}") from exc
    if channel.protocol != PROTOCOL:
        await channel.close()
        raise EgressError(f"{url} is a WebSocket, but not of an Ops Center hub")
    return channel


async def _pump(channel: aiohttp.ClientWebSocketResponse, sock: socket.socket) -> None:
    """Relay both ways until either side ends; then end the other, so that neither side waits."""
    directions = [
        asyncio.create_task(_outwards(channel, sock)),
        asyncio.create_task(_inwards(channel, sock)),
    ]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


async def _outwards(channel: aiohttp.ClientWebSocketResponse, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while chunk := await loop.sock_recv(sock, _CHUNK_BYTES):
        await channel.send_bytes(chunk)  # waits while the network is slower than SSH


async def _inwards(channel: aiohttp.ClientWebSocketResponse, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async for message in channel:
        if message.type is not aiohttp.WSMsgType.BINARY:
            return
        await loop.sock_sendall(sock, message.data)
