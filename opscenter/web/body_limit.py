"""A cap on request bodies, before Django writes them to a temporary file.

Django reads the whole body, however long, and only then calls the view; its own limits come later.
No page and no endpoint accepts files, so the cap is low. Large bodies have places, too: until their
requests are over they are held in memory, also those that are never completed.
"""

from __future__ import annotations

from typing import Any

import orjson

from opscenter.core.budgets import BudgetError, Slots, peer_group

MAX_BYTES = 4 * 2**20
"""More than any form (2.5 MB, Django's own limit) or JSON body (256 kB) may have."""

FREE_BYTES = 64 * 1024
"""So much of a body needs no place: forms and nearly all queries."""
PIECE_BYTES = 64 * 1024
"""Each further piece of this size needs one."""
BODIES = Slots("bodies", "pieces of 64 KiB of large bodies", total=1024, address=128)

# The one error shape (opscenter.core.api, which cannot be imported before Django's views).
_REFUSAL = orjson.dumps(
    {"error": {"code": "too_large", "message": "The body is too large.", "fields": {}}}
)


class BodyLimit:
    """ASGI middleware: 413 for a body that is announced or turns out to be too long."""

    def __init__(self, application: Any, max_bytes: int = MAX_BYTES) -> None:
        self._application = application
        self._max_bytes = max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if _announced(scope) > self._max_bytes:
            await _refuse(send)
            return
        body = _Body(scope, receive, send, self._max_bytes)
        try:
            await self._application(scope, body.receive, body.send)
        finally:
            body.end()


class _Body:
    """The body of one request as it arrives, and the places that it has."""

    def __init__(self, scope: Any, receive: Any, send: Any, max_bytes: int) -> None:
        client = scope.get("client")
        self._holder = {"address": peer_group(client[0]) or None if client else None}
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._received = 0
        self._places = 0
        self._refused = False

    async def receive(self) -> Any:
        """Return the next message; a body that is refused has no peer any more."""
        if self._refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            return await self._refuse(None)
        while self._received > FREE_BYTES + self._places * PIECE_BYTES:
            if by := BODIES.try_take(**self._holder):
                return await self._refuse(BODIES.refusal(by))
            self._places += 1
        return message

    async def send(self, message: Any) -> None:
        """Send a message, unless the body was refused: that is the answer then."""
        if not self._refused:
            await self._send(message)

    def end(self) -> None:
        """Give the places back."""
        for _ in range(self._places):
            BODIES.give_back(**self._holder)
        self._places = 0

    async def _refuse(self, error: BudgetError | None) -> Any:
        self._refused = True
        await _refuse(self._send, error)
        return {"type": "http.disconnect"}  # the application frees what it has


def _announced(scope: Any) -> int:
    """Return the length that the request announces; 0 if there is none, or no number."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:18])
    return 0


async def _refuse(send: Any, error: BudgetError | None = None) -> None:
    """Answer 413, or 429 for want of a place, and close the connection: the rest is not read."""
    status, body, more = 413, _REFUSAL, []
    if error is not None:
        shape = {"error": {"code": error.code, "message": str(error), "fields": {}}}
        status, body = error.http_status, orjson.dumps(shape)
        more = [(name.lower().encode(), value.encode()) for name, value in error.headers().items()]
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
