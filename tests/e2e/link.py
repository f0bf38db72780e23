"""A fault proxy in a thread of its own, for tests whose peers are all other processes."""

from __future__ import annotations

import asyncio
import threading

from tests.faultproxy import FaultProxy


class Link:
    """A relay to one port that can be cut; see :class:`tests.faultproxy.FaultProxy`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxy = FaultProxy("127.0.0.1", 0)
        self.port = 0

    def start(self, target_port: int, listen_port: int) -> None:
        """Relay ``listen_port`` to ``target_port``, both on loopback."""
        self._thread.start()
        self._proxy = FaultProxy("127.0.0.1", target_port)
        self._proxy.port = listen_port
        asyncio.run_coroutine_threadsafe(self._proxy.__aenter__(), self._loop).result(10)
        self.port = listen_port

    def swallow(self) -> None:
        """Let bytes vanish; connections stay open and silent."""
        self._proxy.black_hole = True

    def refuse(self) -> None:
        """Reset every connection, now and when it comes."""
        self._proxy.refuse = True
        self._proxy.black_hole = False
        self._loop.call_soon_threadsafe(self._proxy.reset_all)

    def restore(self) -> None:
        """Relay again."""
        self._proxy.refuse = self._proxy.black_hole = False

    def close(self) -> None:
        """End it."""
        asyncio.run_coroutine_threadsafe(self._proxy.__aexit__(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
