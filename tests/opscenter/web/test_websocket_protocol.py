"""Strangers' sockets, and peers that do not answer, on a real uvicorn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.test import Client

from opscenter.asgi import application
from opscenter.core.budgets import LocalRate
from opscenter.web import websocket_protocol
from opscenter.web.connections import CONNECTIONS
from opscenter.web.http_protocol import BoundedProtocol
from opscenter.web.shares import UNKNOWN_SOCKETS, SocketShare, tell_known
from opscenter.web.user_sockets import SOCKETS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("starts_servers")]

GIVE_UP_SECONDS = 20
ORIGIN = django_settings.TRUSTED_ORIGINS[0]
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def handshake(
    path: str = "/ws/fleet/", cookie: str = "opscenter=nobody", forwarded: str = ""
) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Origin: {ORIGIN}",
    ]  # fmt: skip
    lines += [f"Cookie: {cookie}"] if cookie else []
    lines += [f"X-Forwarded-For: {forwarded}"] if forwarded else []
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def server(app: Any = application, **options: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, port=0, http=BoundedProtocol, lifespan="off", log_level="critical",
        timeout_graceful_shutdown=1, proxy_headers=bool(options), **options,
    )  # fmt: skip
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())
    while not running.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        await task


@pytest.fixture(autouse=True)
def _any_number_of_new_connections(monkeypatch):
    rate = LocalRate("test_new", "new connections", by="address", limit=10**6, seconds=10)
    monkeypatch.setattr(BoundedProtocol, "rate", rate)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - counts have no event
        await asyncio.sleep(0.01)


class Peer:
    """A connection from some address of this machine, which stands for one elsewhere."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def say(cls, port: int, text: bytes, address: str = "127.0.0.9") -> Peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        writer.write(text)
        return cls(reader, writer)

    async def status(self) -> int:
        async with asyncio.timeout(GIVE_UP_SECONDS):
            return int((await self.reader.readuntil(b"\r\n\r\n")).split()[1])

    async def rest(self) -> bytes:
        async with asyncio.timeout(GIVE_UP_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def leave(self) -> None:
        self.writer.close()


class Undecided:
    """An application that knows no user until it is told to."""

    def __init__(self) -> None:
        self.decided = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.decided.wait()
        tell_known(scope)
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


@pytest.mark.parametrize("cookie", ["", "opscenter=nobody"])
async def test_300_sockets_of_strangers_are_refused_and_another_address_is_answered(cookie):
    async with server() as port:
        peers = [await Peer.say(port, handshake(cookie=cookie)) for _ in range(300)]
        victim = await Peer.say(port, GET, "127.0.0.10")
        assert await victim.status() == 200
        said = [await peer.rest() for peer in peers]  # the connection ends by itself
        assert {text.split()[1] for text in said if text} <= {b"403", b"429", b"503"}
        assert UNKNOWN_SOCKETS.used == SOCKETS.used == 0
        for peer in (*peers, victim):
            peer.leave()


@pytest.mark.parametrize("cookie", ["", "opscenter=nobody", "opscenter=" + "x" * 3000])
async def test_a_handshake_without_a_valid_session_is_refused_before_the_upgrade(cookie):
    async with server() as port:
        peer = await Peer.say(port, handshake(cookie=cookie))
        assert await peer.status() == 403
        peer.leave()


async def test_a_user_gets_a_socket_that_holds_no_place_of_strangers(admin):
    client = Client()
    await sync_to_async(client.force_login)(admin)
    name = django_settings.SESSION_COOKIE_NAME
    async with server() as port:
        peer = await Peer.say(port, handshake(cookie=f"{name}={client.cookies[name].value}"))
        assert await peer.status() == 101
        async with asyncio.timeout(GIVE_UP_SECONDS):
            assert b"hello" in await peer.reader.readuntil(b"}")
        assert UNKNOWN_SOCKETS.used == CONNECTIONS.used == 0
        assert SOCKETS.used == 1
        peer.leave()


async def test_only_sixteen_sockets_of_an_address_wait_until_their_user_is_known():
    app = Undecided()
    async with server(SocketShare(app)) as port:
        waiting = [await Peer.say(port, handshake()) for _ in range(16)]
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await until(lambda: UNKNOWN_SOCKETS.used == 16)
        refused = await Peer.say(port, handshake())
        assert await refused.status() == 429
        other = await Peer.say(port, handshake(), "127.0.0.10")
        assert CONNECTIONS.held("address", "127.0.0.9") >= 16  # also over the upgrade
        app.decided.set()
        assert await other.status() == 101
        for peer in (*waiting, refused, other):
            peer.leave()


async def test_behind_a_proxy_the_forwarded_address_has_the_share(settings):
    settings.TRUSTED_PROXIES = ["127.0.0.9"]
    app = Undecided()
    async with server(SocketShare(app), forwarded_allow_ips="127.0.0.9") as port:
        waiting = [await Peer.say(port, handshake(forwarded="192.0.2.1")) for _ in range(16)]
        refused = await Peer.say(port, handshake(forwarded="6.6.6.6, 192.0.2.1"))
        assert await refused.status() == 429
        other = await Peer.say(port, handshake(forwarded="192.0.2.2"))
        app.decided.set()
        assert await other.status() == 101
        for peer in (*waiting, refused, other):
            peer.leave()


async def test_a_socket_whose_user_is_not_known_in_time_ends(monkeypatch):
    monkeypatch.setattr(websocket_protocol, "HANDSHAKE_SECONDS", 0.2)
    async with server(SocketShare(Undecided())) as port:
        peer = await Peer.say(port, handshake())
        assert await peer.rest() == b""
        peer.leave()
    assert UNKNOWN_SOCKETS.used == CONNECTIONS.used == 0


async def test_a_peer_that_reads_nothing_and_answers_no_close_is_gone_soon():
    ended = asyncio.Event()

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x" * 20_000_000})
        ended.set()

    async with server(flood) as port:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(raw, handshake())
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await ended.wait()
            await until(lambda: CONNECTIONS.used == 0)
        raw.close()
