"""A browser's side of a socket, without a network. (channels.testing wants another server.)"""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.testing import ApplicationCommunicator


class Socket(ApplicationCommunicator):
    """One WebSocket to an ASGI application."""

    def __init__(self, application: Any, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        scope = {
            "type": "websocket", "path": path, "query_string": b"", "headers": headers,
            "subprotocols": [],
        }  # fmt: skip
        super().__init__(application, scope)

    async def connect(self) -> bool:
        """Return whether the hand-shake was accepted."""
        await self.send_input({"type": "websocket.connect"})
        return bool((await self.receive_output(timeout=10))["type"] == "websocket.accept")

    async def text(self) -> str:
        """Return the next text message."""
        message = await self.receive_output(timeout=10)
        assert message["type"] == "websocket.send", message
        return str(message["text"])

    async def send_text(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await asyncio.sleep(0)
        await self.wait(timeout=10)
