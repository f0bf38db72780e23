"""A load generator that speaks to any stream: a port, or a gateway after its CONNECT."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Opener = Callable[[], Awaitable[Stream]]


def port_opener(port: int) -> Opener:
    """Return an opener of plain connections to a loopback port."""

    async def opener() -> Stream:
        return await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)

    return opener


async def get(stream: Stream, size: int) -> None:
    """Ask for ``size`` bytes on an open connection and read them all."""
    reader, writer = stream
    writer.write(b"GET /%d HTTP/1.1\r\nHost: bench\r\n\r\n" % size)
    await reader.readuntil(b"\r\n\r\n")
    left = size
    while left:
        block = await reader.read(min(left, 1 << 18))
        if not block:
            msg = f"the connection ended with {left} of {size} bytes to go"
            raise ConnectionError(msg)
        left -= len(block)


async def kept_alive(opener: Opener, *, clients: int, requests: int, size: int) -> float:
    """Return requests a second over connections that stay open."""
    streams = [await opener() for _ in range(clients)]

    async def client(stream: Stream) -> None:
        for _ in range(requests // clients):
            await get(stream, size)

    begin = time.perf_counter()
    await asyncio.gather(*(client(stream) for stream in streams))
    took = time.perf_counter() - begin
    await _close(streams)
    return requests // clients * clients / took


async def new_each(opener: Opener, *, clients: int, requests: int, size: int) -> float:
    """Return requests a second with a new connection for each."""

    async def client() -> None:
        for _ in range(requests // clients):
            stream = await opener()
            await get(stream, size)
            await _close([stream])

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return requests // clients * clients / (time.perf_counter() - begin)


async def bulk(opener: Opener, *, streams: int, megabytes: int) -> float:
    """Return MB/s over ``streams`` connections, each sending ``megabytes``."""
    opened = [await opener() for _ in range(streams)]
    begin = time.perf_counter()
    await asyncio.gather(*(get(stream, megabytes * 1_000_000) for stream in opened))
    took = time.perf_counter() - begin
    await _close(opened)
    return streams * megabytes / took


async def _close(streams: list[Stream]) -> None:
    for _, writer in streams:
        writer.close()
    for _, writer in streams:
        await writer.wait_closed()
