"""Clients that only hold connections open are disconnected, on a real uvicorn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from opscenter.core.budgets import LocalRate, Slots
from opscenter.processes.definitions import _forwarding
from opscenter.web.connections import ConnectionTable
from opscenter.web.http_protocol import PIECE_BYTES, BoundedProtocol, is_trusted_proxy

GIVE_UP_SECONDS = 20


class Impatient(BoundedProtocol):
    request_seconds = 0.3
    answer_seconds = 0.3
    table = ConnectionTable(
        Slots("test_impatient", "connections", total=6, address=3),
        Slots("test_impatient_kept", "connections of probes", total=1),
    )


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body, then answer; /endless never ends, /large is more than buffers hold."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/endless":
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(GIVE_UP_SECONDS)
    body = b"x" * 20_000_000 if scope["path"] == "/large" else b"good"
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def server(http: type[H11Protocol] = Impatient) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, port=0, http=http, lifespan="off", log_level="critical",
        timeout_graceful_shutdown=1,
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


async def say(
    port: int, text: bytes, address: str = "127.0.0.9"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect from an address of this machine, which stands for a peer elsewhere."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    writer.write(text)
    return reader, writer


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.fixture(autouse=True)
def _any_number_of_new_connections(monkeypatch):
    rate = LocalRate("test_new", "new connections", by="address", limit=10**6, seconds=10)
    monkeypatch.setattr(BoundedProtocol, "rate", rate)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - counts have no event
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "start",
    [
        b"", b"GET / HTTP/1.1\r\nHost: x",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("starts_servers")
async def test_a_request_that_never_ends_loses_its_connection(start):
    async with server() as port:
        reader, writer = await say(port, start)
        assert await until_closed(reader) == b""
        writer.close()
    assert not Impatient.table._slots.used


@pytest.mark.usefixtures("starts_servers")
async def test_bytes_that_trickle_in_do_not_wind_the_clock_up():
    async with server() as port:
        reader, writer = await say(port, b"GET / HTTP/1.1\r\nX: ")
        gone = asyncio.create_task(until_closed(reader))
        while not gone.done():
            writer.write(b"a")
            await asyncio.sleep(0.05)
        assert gone.result() == b""
        writer.close()


@pytest.mark.usefixtures("starts_servers")
async def test_an_answer_that_is_never_read_or_never_ends_loses_its_connection():
    async with server() as port:
        reader, writer = await say(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await until_closed(reader)).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.usefixtures("starts_servers")
async def test_a_body_is_read_piece_by_piece_so_that_others_have_their_turn():
    pieces: list[int] = []

    class Noting(BoundedProtocol):
        def data_received(self, data: bytes) -> None:
            pieces.append(len(data))
            super().data_received(data)

    body = b"x" * 2_000_000
    async with server(Noting) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        reader, writer = await say(port, head % len(body) + body)
        assert b"good" in await until_closed(reader)
        writer.close()

    assert sum(pieces) > len(body)
    assert max(pieces) <= PIECE_BYTES


@pytest.mark.usefixtures("starts_servers")
async def test_requests_in_time_are_answered_one_after_the_other_on_one_connection():
    async with server() as port:
        reader, writer = await say(port, b"")
        for _ in range(4):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert b"good" in await reader.readuntil(b"0\r\n\r\n")
            await asyncio.sleep(0.15)
        writer.close()


class Patient(Impatient):
    request_seconds = answer_seconds = GIVE_UP_SECONDS


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HANGING = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"


async def head(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        return await reader.readuntil(b"\r\n\r\n")


@pytest.mark.usefixtures("starts_servers")
async def test_an_address_that_holds_too_many_idle_connections_loses_its_oldest(settings):
    settings.TRUSTED_PROXIES = []
    async with server(Patient) as port:
        held = [await say(port, b"G") for _ in range(3)]
        reader, writer = await say(port, GET)
        assert (await head(reader)).startswith(b"HTTP/1.1 200")
        assert await until_closed(held[0][0]) == b""
        for _, each in [*held, (reader, writer)]:
            each.close()


@pytest.mark.usefixtures("starts_servers")
async def test_an_address_whose_requests_are_all_being_answered_is_told_when_to_come_again(
    settings,
):
    settings.TRUSTED_PROXIES = []
    async with server(Patient) as port:
        held = [await say(port, HANGING) for _ in range(3)]
        for reader, _ in held:
            await head(reader)
        reader, writer = await say(port, b"")
        refused = await until_closed(reader)
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 2" in refused
        other, victim = await say(port, GET, "127.0.0.10")
        assert (await head(other)).startswith(b"HTTP/1.1 200")
        settings.TRUSTED_PROXIES = ["127.0.0.9"]
        proxied, proxy = await say(port, GET)
        assert (await head(proxied)).startswith(b"HTTP/1.1 200")
        for each in (writer, victim, proxy, *(one for _, one in held)):
            each.close()


@pytest.mark.usefixtures("starts_servers")
async def test_an_address_that_connects_again_and_again_is_cut_off_and_another_is_not(
    settings, monkeypatch
):
    settings.TRUSTED_PROXIES = []
    rate = LocalRate("test_few_new", "new connections", by="address", limit=5, seconds=3600)
    monkeypatch.setattr(BoundedProtocol, "rate", rate)
    async with server(Patient) as port:
        for _ in range(5):
            reader, writer = await say(port, GET)
            assert (await head(reader)).startswith(b"HTTP/1.1 200")
            writer.close()
        reader, writer = await say(port, b"")
        assert await until_closed(reader) == b""
        reader, other = await say(port, GET, "127.0.0.10")
        assert (await head(reader)).startswith(b"HTTP/1.1 200")
        settings.TRUSTED_PROXIES = ["127.0.0.9"]
        reader, proxy = await say(port, GET)
        assert (await head(reader)).startswith(b"HTTP/1.1 200")
        for each in (writer, other, proxy):
            each.close()


@pytest.mark.usefixtures("starts_servers")
async def test_a_probe_of_this_machine_is_answered_while_others_hold_all_connections(settings):
    settings.TRUSTED_PROXIES = []
    async with server(Patient) as port:
        held = [await say(port, HANGING, f"127.0.0.{20 + at % 2}") for at in range(6)]
        for reader, _ in held:
            await head(reader)
        reader, stranger = await say(port, b"")
        assert (await until_closed(reader)).startswith(b"HTTP/1.1 503")
        reader, probe = await say(port, GET, "127.0.0.1")
        assert (await head(reader)).startswith(b"HTTP/1.1 200")
        for each in (stranger, probe, *(one for _, one in held)):
            each.close()


@pytest.mark.usefixtures("starts_servers")
async def test_an_answer_that_is_complete_but_not_read_still_has_its_clock(settings):
    settings.TRUSTED_PROXIES = []
    async with server() as port:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.bind(("127.0.0.9", 0))
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        # All of it fits into the buffers of both sides but for a rest that waits here.
        await asyncio.get_running_loop().sock_sendall(raw, GET.replace(b"/ ", b"/large ", 1))
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await until(lambda: Impatient.table._slots.used > 0)
            await until(lambda: Impatient.table._slots.used == 0)
        raw.close()


@pytest.mark.parametrize("address", ["", "testclient", "192.0.2.7", "::1"])
def test_an_address_that_is_not_named_is_no_proxy(settings, address):
    settings.TRUSTED_PROXIES = ["127.0.0.1", "10.0.0.0/8"]
    assert not is_trusted_proxy(address)
    assert is_trusted_proxy("10.2.3.4")


def test_uvicorn_is_always_told_whose_forwarding_headers_to_trust(settings):
    settings.TRUSTED_PROXIES = []
    assert _forwarding() == ("--no-proxy-headers",)
    settings.TRUSTED_PROXIES = ["127.0.0.1", "10.0.0.0/8"]
    assert _forwarding()[-1] == "127.0.0.1,10.0.0.0/8"


class Watched(H11Protocol):
    """uvicorn's own protocol; the newest connection of a test, and what happened to it."""

    last: Watched
    completed = False
    handed_on = False

    def data_received(self, data: bytes) -> None:
        Watched.last = self
        super().data_received(data)
        self.handed_on = self.transport.get_protocol() is not self

    def on_response_complete(self) -> None:
        self.completed = True
        super().on_response_complete()


async def watched(request: bytes) -> Watched:
    """Return uvicorn's protocol after a request and the end of its connection."""
    async with server(Watched) as port:
        reader, writer = await say(port, request)
        await until_closed(reader)
        writer.close()
    return Watched.last


OURS, ADVICE = BoundedProtocol.__module__, "read uvicorn's changes and adapt it"


@pytest.mark.usefixtures("starts_servers")
async def test_uvicorn_still_has_the_parts_of_h11protocol_that_we_build_on():
    protocol = await watched(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    for name in ("client", "conn", "loop", "transport"):
        assert getattr(protocol, name, None) is not None, (
            f"uvicorn's H11Protocol no longer keeps {name!r}, which {OURS} reads: {ADVICE}"
        )
    assert hasattr(protocol.conn, "their_state"), (
        f"uvicorn's H11Protocol no longer has an h11.Connection as 'conn', whose state {OURS} "
        f"reads: {ADVICE}"
    )
    assert protocol.completed, (
        f"uvicorn's H11Protocol no longer calls on_response_complete(), which {OURS} overrides to "
        f"know that an answer is whole: {ADVICE}"
    )


@pytest.mark.usefixtures("starts_servers")
async def test_uvicorn_still_hands_a_websocket_to_another_protocol_at_once():
    protocol = await watched(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert protocol.handed_on, (
        "uvicorn's H11Protocol no longer gives a WebSocket's transport to another protocol within "
        f"data_received(), by which {OURS} knows that its clock must stop: {ADVICE}"
    )
