"""A cap on request bodies, before Django writes them to a temporary file.

Django reads the whole body, however long, and only then calls the view; its own limits come later.
No page and no endpoint accepts files, so the cap is low.
"""

from __future__ import annotations

from typing import Any

import orjson

MAX_BYTES = 4 * 2**20
"""More than any form (2.5 MB, Django's own limit) or JSON body (256 kB) may have."""

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
        received, refused = 0, False

        async def counted() -> Any:
            nonlocal received, refused
            if refused:
                return {"type": "http.disconnect"}
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                refused = True
                await _refuse(send)
                return {"type": "http.disconnect"}  # the application frees what it has
            return message

        async def unless_refused(message: Any) -> None:
            if not refused:
                await send(message)

        await self._application(scope, counted, unless_refused)


def _announced(scope: Any) -> int:
    """Return the length that the request announces; 0 if there is none, or no number."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:18])
    return 0


async def _refuse(send: Any) -> None:
    """Answer 413 and close the connection: the rest is not read."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
