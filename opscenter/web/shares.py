"""The share of each address in what is under way: requests, and sockets whose user is not known.

ASGI middleware, outside of everything else of ours. Behind a trusted proxy the address is the
forwarded one: uvicorn has put it into the scope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from opscenter.core.budgets import BudgetError, Slots, peer_group
from opscenter.core.large_answers import WHEN_DONE

REQUESTS = Slots("requests", "requests", total=256, address=64)
UNKNOWN_SOCKETS = Slots("unknown_sockets", "sockets whose user is not known", total=128, address=16)

PROBES = frozenset({"/healthz", "/readyz"})
"""Answered whoever has used up what: a supervisor must not take a busy process for a dead one."""

WHEN_KNOWN = "opscenter.when_known"
"""Key of a scope: what to call once the user of a socket is known."""


class RequestShare:
    """ASGI middleware: one address has only so many requests under way.

    A request lasts until its answer is sent, or its peer has gone and the view has come to an end.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        holder = {"address": _address(scope)}
        is_probe = scope["path"] in PROBES
        if not is_probe and (by := REQUESTS.try_take(**holder)):
            await _refuse(scope["path"], REQUESTS.refusal(by), send)
            return
        when_done: list[Callable[[], None]] = []
        try:
            await self._application({**scope, WHEN_DONE: when_done}, receive, send)
        finally:
            if not is_probe:
                REQUESTS.give_back(**holder)
            for call in when_done:
                call()


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
