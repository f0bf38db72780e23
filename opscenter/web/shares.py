"""The share of each address in what is under way: requests, and sockets whose user is not known.

ASGI middleware, outside of everything else of ours. Behind a trusted proxy the address is the
forwarded one: uvicorn has put it into the scope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import orjson

from opscenter.core.budgets import BudgetError, Slots, peer_group
from opscenter.core.large_answers import WHEN_DONE

REQUESTS = Slots("requests", "requests", total=256, address=48)
FEW_REQUESTS = 2
"""So many of one address are under way also when nearly all places are taken."""
UNKNOWN_SOCKETS = Slots("unknown_sockets", "sockets whose user is not known", total=128, address=16)

PROBES = frozenset({"/healthz", "/readyz"})
"""Answered whoever has used up what: a supervisor must not take a busy process for a dead one."""

WHEN_KNOWN = "opscenter.when_known"
"""Key of a scope: what to call once the user of a socket is known."""


class RequestShare:
    """ASGI middleware: one address has only so many requests under way.

    A request lasts from the end of its body until its answer is sent, or its peer has gone and the
    view has come to an end. While the body arrives it only holds a connection, which goes when
    others need it: slow bodies from a few addresses would else use up the requests of all.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        turn = _Turn(scope, receive, send)
        if not _has_body(scope) and await turn.is_refused():
            return
        when_done: list[Callable[[], None]] = []
        try:
            await self._application({**scope, WHEN_DONE: when_done}, turn.receive, turn.send)
        finally:
            turn.end()
            for call in when_done:
                call()


class _Turn:
    """The slot of one request, taken once its body is here. A probe has none and needs none."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._path = scope["path"]
        self._holder = {"address": _address(scope)}
        self._receive = receive
        self._send = send
        is_probe = self._path in PROBES
        self._state: Literal["waits", "held", "refused", "over"] = "over" if is_probe else "waits"

    async def is_refused(self) -> bool:
        """Take the slot; answer 429 and return True if there is none."""
        if self._state == "over":
            return False
        if by := _try_take(self._holder["address"]):
            self._state = "refused"
            await _refuse(self._path, REQUESTS.refusal(by), self._send)
            return True
        self._state = "held"
        return False

    async def receive(self) -> Any:
        """Return the next message; a request that is refused has no peer any more."""
        message = await self._receive()
        is_whole = message["type"] == "http.request" and not message.get("more_body")
        if self._state == "waits" and is_whole and await self.is_refused():
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Any) -> None:
        """Send a message, unless the request was refused: it is answered then."""
        if self._state != "refused":
            await self._send(message)

    def end(self) -> None:
        """Give the slot back; a second time does nothing."""
        if self._state == "held":
            self._state = "over"
            REQUESTS.give_back(**self._holder)


class SocketShare:
    """ASGI middleware: one address has only so many sockets whose user is not known yet."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one socket; refuse the handshake where there is no place."""
        holder = {"address": _address(scope)}
        if by := UNKNOWN_SOCKETS.try_take(**holder):
            await refuse_handshake(send, 429, UNKNOWN_SOCKETS.refusal(by).headers())
            return
        held = True

        def known() -> None:
            nonlocal held
            if held:
                held = False
                UNKNOWN_SOCKETS.give_back(**holder)

        try:
            calls = [*scope.get(WHEN_KNOWN, ()), known]
            await self._application({**scope, WHEN_KNOWN: calls}, receive, send)
        finally:
            known()


def tell_known(scope: Any) -> None:
    """Say that the user of a socket is known: from here on it counts for the user alone."""
    for call in scope.get(WHEN_KNOWN, ()):
        call()


async def refuse_handshake(send: Any, status: int, headers: dict[str, str] | None = None) -> None:
    """Answer the request for an upgrade with a status instead."""
    lines = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "websocket.http.response.start", "status": status, "headers": lines})
    await send({"type": "websocket.http.response.body", "body": b""})


def _try_take(address: str | None) -> str:
    """Take the slot of a request; return whose share is used up, or "".

    The fuller it is, the less one address may hold: a quarter of what is free, but always a few.
    So a dozen addresses that hold all they can leave places for those who hold nothing.
    """
    free = REQUESTS.total - REQUESTS.used
    if address and REQUESTS.held("address", address) >= max(FEW_REQUESTS, free // 4):
        return "address"
    return REQUESTS.try_take(address=address)


def _has_body(scope: Any) -> bool:
    """Return whether a request announces a body that is not empty."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _address(scope: Any) -> str | None:
    """Return the address group of a peer; None for a unix socket."""
    client = scope.get("client")
    return peer_group(client[0]) or None if client else None


async def _refuse(path: str, error: BudgetError, send: Any) -> None:
    """Answer 429 in the shape of the surface that was asked."""
    kind, body = b"text/plain; charset=utf-8", str(error).encode()
    if path.startswith("/api/"):
        shape: dict[str, Any] = {"error": {"code": error.code, "message": str(error), "fields": {}}}
        kind, body = b"application/json", orjson.dumps(shape)
    elif path.startswith("/prometheus/"):
        shape = {"status": "error", "errorType": "unavailable", "error": str(error)}
        kind, body = b"application/json", orjson.dumps(shape)
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in error.headers().items()),
    ]
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
