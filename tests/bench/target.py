"""A small, quick HTTP server to measure tunnels against: ``python -m tests.bench.target PORT``.

``GET /N`` answers N bytes. It keeps connections open.
"""

from __future__ import annotations

import asyncio
import sys

_BLOCK = bytes(65536)


class _Target(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            size = int(head.split(b" ", 2)[1].lstrip(b"/"))
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while size > 0:
                self._transport.write(_BLOCK[:size])
                size -= len(_BLOCK)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Target, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
