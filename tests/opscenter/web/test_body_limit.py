"""Bodies that no request needs are refused before anything stores them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from opscenter.asgi import application
from opscenter.web.body_limit import BODIES, FREE_BYTES, MAX_BYTES, PIECE_BYTES, BodyLimit


class Exchange:
    """One request as a server gives it, and what was answered."""

    def __init__(self, chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> None:
        self.chunks = chunks
        self.taken = 0
        self.sent: list[Any] = []
        self.scope = {
            "type": "http", "method": "POST", "path": "/accounts/login/", "query_string": b"",
            "headers": [(b"host", b"localhost"), *headers],
        }  # fmt: skip

    async def receive(self) -> Any:
        body = self.chunks[self.taken]
        self.taken += 1
        return {"type": "http.request", "body": body, "more_body": self.taken < len(self.chunks)}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        starts = [one["status"] for one in self.sent if one["type"] == "http.response.start"]
        assert len(starts) == 1, self.sent
        return int(starts[0])


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the whole body, then answer in any case."""
    while (message := await receive()).get("more_body"):
        assert message["type"] == "http.request"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("size", [b"%d" % (MAX_BYTES + 1), b"9" * 30])
async def test_a_body_that_is_announced_as_too_long_is_not_read(size):
    exchange = Exchange([b"x"], [(b"content-length", size)])
    await application(exchange.scope, exchange.receive, exchange.send)
    assert (exchange.status, exchange.taken) == (413, 0)
    assert orjson.loads(exchange.sent[-1]["body"])["error"]["code"] == "too_large"
    assert (b"connection", b"close") in exchange.sent[0]["headers"]


async def test_a_body_that_goes_on_and_on_is_refused_once_when_it_is_too_long():
    exchange = Exchange([b"x" * 60] * 1000, [])
    await BodyLimit(echo, 100)(exchange.scope, exchange.receive, exchange.send)
    assert (exchange.status, exchange.taken) == (413, 2)


async def test_what_fits_goes_through_as_it_is():
    exchange = Exchange([b"x" * 50, b"x" * 50], [(b"content-length", b"100")])
    await BodyLimit(echo, 100)(exchange.scope, exchange.receive, exchange.send)
    assert (exchange.status, exchange.taken) == (200, 2)


async def test_large_bodies_of_one_address_have_a_share_and_another_has_its_own():
    sizes = [FREE_BYTES] + [PIECE_BYTES] * BODIES.shares["address"]
    holding = asyncio.Event()

    async def holds(scope: Any, receive: Any, send: Any) -> None:
        for _ in sizes:
            await receive()
        await holding.wait()

    first = exchange_of("192.0.2.1", [b"x" * size for size in sizes] + [b"last"])
    task = asyncio.create_task(BodyLimit(holds, 2**30)(first.scope, first.receive, first.send))
    await asyncio.sleep(0)
    large = [b"x" * FREE_BYTES, b"x"]
    again, other = exchange_of("192.0.2.1", large), exchange_of("192.0.2.2", large)
    small = exchange_of("192.0.2.1", [b"x" * FREE_BYTES])
    for one in (again, other, small):
        await BodyLimit(echo)(one.scope, one.receive, one.send)

    assert [again.status, other.status, small.status] == [429, 200, 200]
    assert (b"connection", b"close") in again.sent[0]["headers"]
    holding.set()
    await task
    assert BODIES.used == 0


async def test_what_all_large_bodies_take_together_is_bounded():
    assert BODIES.total * PIECE_BYTES <= 64 * 2**20


def exchange_of(address: str, chunks: list[bytes]) -> Exchange:
    exchange = Exchange(chunks, [])
    exchange.scope["client"] = (address, 1)
    return exchange
