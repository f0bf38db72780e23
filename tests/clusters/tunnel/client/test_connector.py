"""What a pull's connector uses of aiohttp, besides its documented interface."""

from __future__ import annotations

import contextlib
import inspect

import aiohttp
from aiohttp.client_proto import ResponseHandler

from clusters.tunnel.client.connector import GatewayConnector


async def test_aiohttp_still_asks_a_connector_for_connections_as_ours_gives_them():
    ours, advice = GatewayConnector.__module__, "read aiohttp's changes and adapt it"
    asked = []

    class Watched(aiohttp.BaseConnector):
        async def _create_connection(self, *args, **kwargs):
            asked.append((args, kwargs))
            raise OSError

    async with aiohttp.ClientSession(connector=Watched()) as session:
        with contextlib.suppress(OSError, NotImplementedError):
            await session.get("http://agent/")
    assert asked, (
        "aiohttp no longer calls a connector's _create_connection() for a new connection, which "
        f"{ours} overrides: {advice}"
    )
    taken = [*inspect.signature(GatewayConnector._create_connection).parameters][1:]
    given = [*inspect.signature(aiohttp.BaseConnector._create_connection).parameters][1:]
    assert (given, len(asked[0][0]), asked[0][1]) == (taken, len(taken), {}), (
        f"aiohttp calls a connector's _create_connection() with other arguments than "
        f"({', '.join(taken)}), which {ours} takes: {advice}"
    )
    assert "loop" in inspect.signature(ResponseHandler).parameters, (
        f"aiohttp's ResponseHandler is no longer made with a 'loop', as {ours} makes it: {advice}"
    )
