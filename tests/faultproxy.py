"""A TCP relay that misbehaves on demand: delay, drop, reset, black hole, throttle.

Tests put it between two real peers. Faults may be switched while connections are open and hold
for both directions unless a direction is named::

    async with FaultProxy("127.0.0.1", port) as proxy:
        ...                                    # dial proxy.port instead of port
        proxy.black_hole = True                # bytes are swallowed, nothing is closed
        proxy.reset_all()                      # every open connection ends with a RST
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Literal

Direction = Literal["up", "down"]  # up: from the dialling side to the target

_CHUNK = 64 * 1024


class FaultProxy:
    """One listening port on loopback that relays to one target, with faults.

    Attributes:
        port: where it listens; set on entry.
        connections: how many have been accepted since the start.
        delay_seconds: wait this long before passing each chunk on.
        black_hole: "" or a direction, or True for both: read and swallow, close nothing, also
            not when a peer closes (the peer that is left sees a silent link).
        freeze: stop reading, so that senders fill their buffers and then block.
        bytes_per_second: throttle of each direction of each connection; None is no limit.
        refuse: accept and reset new connections at once.
        drop_after_bytes: end a connection cleanly after this many bytes downwards; None never.
    """

    def __init__(
        self, host: str, port: int, *, unix_path: str | None = None, from_address: str = ""
    ) -> None:
        self._target = (host, port)
        self._source = (from_address, 0) if from_address else None  # what the target sees
        self._unix_path = unix_path
        self.port = 0
        self.connections = 0
        self.delay_seconds = 0.0
        self.black_hole: bool | Direction = False
        self.freeze = False
        self.bytes_per_second: float | None = None
        self.refuse = False
        self.drop_after_bytes: int | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    @property
    def open_connections(self) -> int:
        """Return how many sockets are open towards the dialling side and the target."""
        return len(self._writers)

    def reset_all(self) -> None:
        """End every open connection on both sides with a RST."""
        for writer in list(self._writers):
            _reset(writer)
        self._writers.clear()

    def drop_all(self) -> None:
        """End every open connection on both sides with a FIN."""
        for writer in list(self._writers):
            writer.close()
        self._writers.clear()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._relay(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # the proxy is being closed
        finally:
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            _reset(writer)
            return
        try:
            if self._unix_path is not None:
                up_reader, up_writer = await asyncio.open_unix_connection(self._unix_path)
            else:
                up_reader, up_writer = await asyncio.open_connection(
                    *self._target, local_addr=self._source
                )
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, up_writer}
        try:
            await asyncio.gather(
                self._pump(reader, up_writer, "up"), self._pump(up_reader, writer, "down")
            )
        finally:
            for side in (writer, up_writer):
                self._writers.discard(side)
                side.transport.abort()

    def _swallows(self, direction: Direction) -> bool:
        return self.black_hole is True or self.black_hole == direction

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        passed = 0
        while True:
            chunk = await self._read(reader)
            if self._swallows(direction):
                if chunk:
                    continue
                await self._hold(lambda: self._swallows(direction))
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if self.bytes_per_second and chunk:
                await asyncio.sleep(len(chunk) / self.bytes_per_second)
            if not await _write(writer, chunk):
                return
            passed += len(chunk)
            limit = self.drop_after_bytes
            if direction == "down" and limit is not None and passed >= limit:
                writer.close()
                return

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next bytes; empty when the sender is done or gone."""
        await self._hold(lambda: self.freeze)
        try:
            return await reader.read(_CHUNK)
        except OSError:
            return b""

    async def _hold(self, condition: Callable[[], bool]) -> None:
        """Wait for as long as a fault lasts."""
        while condition():  # noqa: ASYNC110 - faults are plain attributes, so that tests just set them
            await asyncio.sleep(0.01)


async def _write(writer: asyncio.StreamWriter, chunk: bytes) -> bool:
    """Pass bytes, or the end, on; False when there is nothing more to do in this direction."""
    try:
        if not chunk:
            writer.write_eof()
            return False
        writer.write(chunk)
        await writer.drain()
    except (OSError, RuntimeError):
        return False  # the other side is gone: nobody is left to relay to
    return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST: linger 0 makes the kernel discard instead of finishing politely."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
