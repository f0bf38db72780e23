"""Bodies that no request needs are refused before anything stores them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from opscenter.asgi import application
from opscenter.web.body_limit import MAX_BYTES, BodyLimit


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
