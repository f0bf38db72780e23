"""A small read-only client of the Kubernetes API server, with the pod's service account.

It trusts the cluster's own certificate authority only, follows no redirect, takes no proxy from
the environment, and bounds every answer in time and size.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from agent.collectors.base import CollectorError
from agent.reasons import reason_of

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PAGE_SIZE = 500
MAX_PAGES = 200
MAX_ANSWER_BYTES = 64 * 2**20
"""Bytes of one answer; a page of 500 pods is around 5 MB, a node's summary under 1 MB."""


class KubeApiError(CollectorError):
    """The API server did not answer as it should; ``status`` is its HTTP status, or None."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """Where the API server is and how to log in.

    Attributes:
        url: URL of the API server, without a trailing slash.
        token_file: file of the token, read for every request, as the kubelet rotates it.
        ca_file: file of the cluster's authority; None trusts the system's.
    """

    url: str
    token_file: Path
    ca_file: Path | None

    @classmethod
    def in_cluster(
        cls, environ: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT
    ) -> KubeAccess | None:
        """Return the access that Kubernetes gives to every pod; None if this is no pod."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
        token = account / "token"
        if not host or not port or not token.is_file():
            return None
        authority = f"[{host}]" if ":" in host else host
        return cls(f"https://{authority}:{port}", token, account / "ca.crt")


@dataclass(slots=True)
class _Session:
    """A pool of connections that trusts one authority, and how many requests use it now."""

    client: aiohttp.ClientSession
    authority: str | None
    requests: int = 0


class KubeApi:
    """Gets and lists objects; one connection pool for as long as the authority is the same."""

    def __init__(self, access: KubeAccess) -> None:
        self._access = access
        self._session: _Session | None = None

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.client.close()

    async def get(
        self, path: str, params: Mapping[str, str] | None = None, *, deadline_seconds: float
    ) -> Any:
        """Return the JSON at ``path``.

        Raises:
            KubeApiError: if it fails: connection, certificate, status, size, time or form.
        """
        try:
            async with asyncio.timeout(deadline_seconds):
                return await self._get(path, params or {})
        except TimeoutError as exc:
            msg = f"{path}: no answer within {deadline_seconds:g} s"
            raise KubeApiError(msg) from exc
        except (aiohttp.ClientError, OSError) as exc:
            msg = f"{path}: {type(exc).__name__}: {reason_of(exc)}"
            raise KubeApiError(msg) from exc

    async def list_all(self, path: str, *, deadline_seconds: float) -> list[dict[str, Any]]:
        """Return all objects of a collection, fetched page by page.

        A list that takes so long that its continuation expires (410) is restarted once.

        Raises:
            KubeApiError: if a page fails, or the collection does not end.
        """
        async with asyncio.timeout(deadline_seconds):
            try:
                return await self._pages(path, deadline_seconds)
            except KubeApiError as exc:
                if exc.status != 410:
                    raise
                return await self._pages(path, deadline_seconds)

    async def _pages(self, path: str, deadline_seconds: float) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        params = {"limit": str(PAGE_SIZE)}
        for _ in range(MAX_PAGES):
            page = await self.get(path, params, deadline_seconds=deadline_seconds)
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                msg = f"{path}: the answer is no list"
                raise KubeApiError(msg)
            items.extend(item for item in page["items"] if isinstance(item, dict))
            metadata = page.get("metadata")
            following = metadata.get("continue") if isinstance(metadata, dict) else None
            if not following:
                return items
            params = {"limit": str(PAGE_SIZE), "continue": str(following)}
        msg = f"{path}: more than {MAX_PAGES} pages"
        raise KubeApiError(msg)

    async def _get(self, path: str, params: Mapping[str, str]) -> Any:
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        async with (
            self._open() as client,
            client.get(
                self._access.url + path, params=params, headers=headers, allow_redirects=False
            ) as response,
        ):
            if response.status != 200:
                detail = (await response.content.read(300)).decode("utf-8", errors="replace")
                msg = f"{path}: HTTP {response.status}: {_message(detail)}"
                raise KubeApiError(msg, response.status)
            body = bytearray()
            async for chunk in response.content.iter_chunked(2**16):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    msg = f"{path}: the answer is larger than {MAX_ANSWER_BYTES} bytes"
                    raise KubeApiError(msg)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            msg = f"{path}: the answer is no JSON: {exc}"
            raise KubeApiError(msg) from exc

    def _token(self) -> str:
        try:
            return self._access.token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as exc:
            msg = f"the service account's token cannot be read: {exc}"
            raise KubeApiError(msg) from exc

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Yield the connections to use.

        When the authority was replaced these are new ones. The former ones are closed by the last
        request that uses them. Nothing is awaited in between, so that requests that begin at one
        moment share one session.
        """
        authority = self._authority()
        former, session = None, self._session
        if session is None or session.authority != authority:
            former, session = session, _Session(_client(authority), authority)
            self._session = session
        session.requests += 1
        try:
            if former is not None and not former.requests:
                await former.client.close()
            yield session.client
        finally:
            session.requests -= 1
            if session is not self._session and not session.requests:
                await session.client.close()

    def _authority(self) -> str | None:
        """Return the cluster's authority in PEM; None for the system's.

        The kubelet replaces its file with every token, about once an hour, usually by the same.
        """
        if self._access.ca_file is None:
            return None
        try:
            return self._access.ca_file.read_text(encoding="ascii", errors="replace")
        except OSError as exc:
            msg = f"the cluster's certificate authority cannot be read: {exc}"
            raise KubeApiError(msg) from exc


def _client(authority: str | None) -> aiohttp.ClientSession:
    try:
        context = ssl.create_default_context(cadata=authority)
    except (ssl.SSLError, ValueError) as exc:
        msg = f"the cluster's certificate authority cannot be used: {exc}"
        raise KubeApiError(msg) from exc
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=64),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def _message(detail: str) -> str:
    """Return the message of a Status object, or the beginning of any other answer."""
    try:
        status = orjson.loads(detail)
    except orjson.JSONDecodeError:
        return detail[:200]
    return str(status.get("message", ""))[:200] if isinstance(status, dict) else detail[:200]
