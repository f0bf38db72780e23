"""Servers that answer a pull with what a test gives them."""

from __future__ import annotations

from aiohttp import web


def json_answer(body: bytes, **headers: str):
    """Return a handler that answers with a body that is said to be JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json", headers=headers)

    return answer


def app_of(handler) -> web.Application:
    """Return an agent's API whose ranges are answered by one handler."""
    app = web.Application()
    app.router.add_get("/v1/range", handler)
    return app
