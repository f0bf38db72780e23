"""An id for each request, which its log lines, its answer and its tasks carry; an access log.

Outermost around the application, so that refusals of inner layers have an id, too. uvicorn's own
answers to what is not HTTP, and to too many connections, have none.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from opscenter.core.log_context import bind, caller, unbind

PROXY_STATE = "peer_is_trusted_proxy"
"""Key of the connection's ASGI state: whether its headers may be believed."""

HEADER = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_CLUSTER = re.compile(r"/clusters/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?:/|$)")
_ANSWERS = ("http.response.start", "websocket.accept", "websocket.http.response.start")

_LONGEST_PATH = 200
_LEFT_OUT = "..."
# In paths: what follows join/, our tokens by their beginnings, and what looks like a random one:
# mixed case with digits, or long hexadecimal. Names in Kubernetes have no upper case.
_SECRETS = re.compile(
    r"(?<=/join/).+"
    r"|oc[a-z]_[^/]*|opc_[^/]*"
    r"|(?<=/)(?=[^/]*[A-Z])(?=[^/]*[a-z])(?=[^/]*[0-9])[\w~.-]{20,}"
    r"|(?<=/)[0-9a-fA-F]{32,}"
)

access = logging.getLogger("opscenter.access")


class RequestLog:
    """ASGI middleware for HTTP and WebSocket.

    Args:
        application: what answers.
        write_access: whether each request is a line of the log.
    """

    def __init__(self, application: Any, *, write_access: bool = False) -> None:
        self._application = application
        self._write_access = write_access

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or socket under its id."""
        request_id = _given_id(scope) or uuid4().hex
        answer = _Answer(time.monotonic())

        async def send_with_id(message: Any) -> None:
            if message["type"] in _ANSWERS:
                others = [pair for pair in message.get("headers", ()) if pair[0].lower() != HEADER]
                message = {**message, "headers": [*others, (HEADER, request_id.encode())]}
            answer.note(message)
            await send(message)

        cluster = _CLUSTER.search(scope["path"])
        of_cluster = {"cluster": cluster[1].lower()} if cluster else {}
        bound = bind(request_id=request_id, **of_cluster)
        client = scope.get("client")
        called = caller.set(str(client[0]) if client else "")
        try:
            await self._application(scope, receive, send_with_id)
        finally:
            if self._write_access:
                _write_access(scope, answer)
            caller.reset(called)
            unbind(bound)


@dataclass
class _Answer:
    began: float
    status: int | None = None  # None: nothing was answered
    sent: int = 0  # bytes of the body

    def note(self, message: Any) -> None:
        if message["type"] == "websocket.accept":
            self.status = 101
        else:
            self.status = message.get("status", self.status)
        self.sent += len(message.get("body", b""))


def _given_id(scope: Any) -> str:
    """Return the id that a trusted proxy gave; "" if there is none that may be used."""
    if not scope.get("state", {}).get(PROXY_STATE):
        return ""
    given = [value for name, value in scope["headers"] if name == HEADER]
    return given[0].decode() if len(given) == 1 and _ID.fullmatch(given[0]) else ""


def path_for_log(path: str) -> str:
    """Return a path without what may be a secret, and not longer than a line can take."""
    cut = _SECRETS.sub(_LEFT_OUT, path)
    return cut if len(cut) <= _LONGEST_PATH else cut[:_LONGEST_PATH] + _LEFT_OUT


def _write_access(scope: Any, answer: _Answer) -> None:
    """Write one line; never with a query, whose values may be secrets or a customer's names."""
    method = str(scope.get("method", "WEBSOCKET"))[:20]
    path = path_for_log(scope["path"])
    client = scope.get("client")
    milliseconds = round(1000 * (time.monotonic() - answer.began))
    fields = {
        "method": method,
        "path": path,
        "status": answer.status,
        "bytes": answer.sent,
        "milliseconds": milliseconds,
        "address": client[0] if client else None,
    }
    access.info(
        "%s %s %s, %d bytes in %d ms, for %s",
        method,
        path,
        answer.status or "without an answer",
        answer.sent,
        milliseconds,
        client[0] if client else "unknown",
        extra={"fields": fields},
    )
