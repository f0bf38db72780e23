"""The centre's own HTTP client, straight to a port of this machine instead of through a tunnel."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Self

import aiohttp

from clusters.tunnel.client.http_client import ClusterClient


class DirectClient(ClusterClient):
    """Asks ``http://127.0.0.1:port``; deadline, cap, statuses and errors are those of pulls.

    It counts what it is asked, so that tests can tell how often a source asked.
    """

    def __init__(
        self,
        port: int,
        *,
        headers: Mapping[str, str] | None = None,
        deadline_seconds: float = 20,
        max_bytes: int = 8_000_000,
    ) -> None:
        super().__init__(
            uuid.UUID(int=port),
            "prometheus",
            deadline_seconds=deadline_seconds,
            max_bytes=max_bytes,
            cluster_name="here",
            headers=headers or {},
        )
        self._port = port
        self.requests = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            base_url=f"http://127.0.0.1:{self._port}",
            headers=self._headers,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def _ask(self, *args, **kwargs):
        self.requests += 1
        return await super()._ask(*args, **kwargs)
