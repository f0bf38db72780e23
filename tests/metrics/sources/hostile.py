"""A server on loopback that answers whatever a test wants."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

Answer = tuple[int, str, bytes]


@contextlib.asynccontextmanager
async def hostile_server(
    answer: Callable[[web.Request], Awaitable[Answer]],
) -> AsyncIterator[int]:
    """Serve ``answer(request)``: status, Content-Type and body; yield the port."""

    async def handle(request: web.Request) -> web.Response:
        status, kind, body = await answer(request)
        return web.Response(status=status, body=body, headers={"Content-Type": kind})

    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
