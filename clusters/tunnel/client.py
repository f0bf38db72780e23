"""An HTTP client for one service of one cluster: what every pull goes through.

It asks the hub's gateway for a stream to ``<service>.<cluster>`` and speaks plain HTTP over it.
A hostile answer costs at most the deadline and the cap: no redirects, no cookies, no proxies
from the environment, and compressed bodies are inflated here, up to the cap and not a byte more.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from clusters.tunnel.tokens import issue_token
from clusters.tunnel.wire import SERVICE_PORTS
from opscenter.core.errors import (
    BadResponseError,
    ClusterError,
    ClusterUnreachableError,
    ServiceUnavailableError,
)
from opscenter.core.text import one_line

_NO_PARAMS: Mapping[str, str] = {}
_CHUNK = 64 * 1024
_HEAD_LIMIT = 16 * 1024
# The gateway answers within its own 2 s queue and 5 s open.
_GATEWAY_SECONDS = 10.0
# Gateway codes that mean "the tunnel", not "the service behind it".
_TUNNEL_CODES = frozenset(
    {"no_tunnel", "tunnel_lost", "draining", "unknown_cluster", "token", "bad_request"}
)


class ClusterClient:
    """Asks one service of one cluster. An async context manager; not shared between tasks.

    Args:
        cluster_id: which cluster.
        service: a name of :data:`~clusters.tunnel.wire.SERVICE_PORTS`.
        deadline_seconds: for each request from the first byte sent to the last one read.
        max_bytes: of a decoded body; one byte more is refused.
        cluster_name: for messages; the id when it is not given.
    """

    def __init__(
        self,
        cluster_id: UUID,
        service: str,
        *,
        deadline_seconds: float,
        max_bytes: int,
        cluster_name: str = "",
    ) -> None:
        self._cluster_id = cluster_id
        self._service = service
        self._deadline_seconds = deadline_seconds
        self._max_bytes = max_bytes
        self._subject = f"{service} of {cluster_name or cluster_id}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = _GatewayConnector(settings.GATEWAY_URL, self._cluster_id, self._service)
        self._session = aiohttp.ClientSession(
            base_url=f"http://{self._service}.{self._cluster_id}:{SERVICE_PORTS[self._service]}",
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            max_line_size=8190,
            max_field_size=8190,
            timeout=aiohttp.ClientTimeout(total=None),  # asyncio.timeout covers body and inflate
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get_json(
        self,
        path: str,
        params: Mapping[str, str] = _NO_PARAMS,
        *,
        before_parsing: Callable[[], object] = lambda: None,
    ) -> Any:
        """Return the JSON value of ``GET path``; NaN and Infinity are no JSON.

        Args:
            path: of the service.
            params: of the query.
            before_parsing: called once the answer is in; may block, while nothing else goes on
                in the event loop.

        Raises:
            ClusterUnreachableError: if the tunnel or the hub is down.
            ServiceUnavailableError: if the service refuses, is too slow, or answers 5xx.
            BadResponseError: for another status, a redirect, a body over the cap, one that is not
                JSON by its Content-Type or its text, or one that cannot be inflated.
        """
        body, content_type = await self._get(path, params, accept="application/json")
        kind = content_type.partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise self._bad(f"answered {one_line(kind, 60) or 'no Content-Type'}, not JSON")
        before_parsing()
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise self._bad(f"sent what is not JSON: {one_line(str(exc), 120)}") from exc

    async def get_bytes(self, path: str, params: Mapping[str, str] = _NO_PARAMS) -> bytes:
        """Return the decoded body of ``GET path``.

        Raises:
            ClusterUnreachableError, ServiceUnavailableError, BadResponseError: as
                :meth:`get_json`, save that any Content-Type will do.
        """
        body, _ = await self._get(path, params, accept="*/*")
        return bytes(body)

    async def _get(
        self, path: str, params: Mapping[str, str], *, accept: str
    ) -> tuple[bytearray, str]:
        if self._session is None:
            msg = "use ClusterClient in an async with statement"
            raise RuntimeError(msg)
        headers = {"Accept": accept, "Accept-Encoding": "gzip, deflate"}
        try:
            async with (
                asyncio.timeout(self._deadline_seconds),
                self._session.get(
                    path, params=params, headers=headers, allow_redirects=False
                ) as response,
            ):
                self._check_status(response.status)
                body = await self._read(response)
                return body, response.headers.get("Content-Type", "")
        except TimeoutError as exc:
            msg = f"{self._subject}: no complete answer within {self._deadline_seconds:g} s"
            raise ServiceUnavailableError(msg) from exc
        except _GatewayRefusedError as exc:
            raise self._refused(exc) from exc
        except (aiohttp.ClientPayloadError, aiohttp.http.HttpProcessingError) as exc:
            raise self._bad(f"broke off or garbled its answer: {_first_line(exc)}") from exc
        except aiohttp.ClientResponseError as exc:
            raise self._bad(f"did not speak HTTP: {_first_line(exc)}") from exc
        except (aiohttp.ClientError, OSError) as exc:
            msg = f"{self._subject}: the connection failed: {_first_line(exc)}"
            raise ServiceUnavailableError(msg) from exc

    def _check_status(self, status: int) -> None:
        if status == 200:
            return
        if status >= 500:
            msg = f"{self._subject}: answered with status {status}"
            raise ServiceUnavailableError(msg)
        if 300 <= status < 400:
            raise self._bad(f"answered with a redirect ({status}), which is not followed")
        raise self._bad(f"answered with status {status}")

    async def _read(self, response: aiohttp.ClientResponse) -> bytearray:
        """Read and inflate the body, never holding more than the cap."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise self._bad(f"used the encoding {one_line(encoding, 20)!r}, which was not asked")
        length = response.content_length
        if length is not None and length > self._max_bytes:
            raise self._bad(f"announced {length} bytes, more than the cap of {self._max_bytes}")
        body = bytearray()
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if encoding != "identity" else None
        async for chunk in response.content.iter_chunked(_CHUNK):
            self._append(body, chunk, inflate)
            await asyncio.sleep(0)  # a fast sender must not hold the loop past the deadline
        if inflate is not None and not inflate.eof:
            raise self._bad("sent a compressed body that breaks off")
        return body

    def _append(self, body: bytearray, chunk: bytes, inflate: Any) -> None:
        if inflate is not None:
            try:
                chunk = inflate.decompress(chunk, self._max_bytes - len(body) + 1)
            except zlib.error as exc:
                raise self._bad(f"sent a body that cannot be inflated: {exc}") from exc
        body += chunk
        if len(body) > self._max_bytes:
            raise self._bad(f"sent more than the cap of {self._max_bytes} bytes")
        if inflate is not None and inflate.unused_data:
            raise self._bad("sent bytes after the end of its compressed body")

    def _bad(self, what: str) -> BadResponseError:
        return BadResponseError(f"{self._subject}: {what}")

    def _refused(self, exc: _GatewayRefusedError) -> ClusterError:
        text = f"{self._subject}: {exc.reason}"
        if exc.code in _TUNNEL_CODES or exc.status == 0:
            return ClusterUnreachableError(text)
        return ServiceUnavailableError(text)


class _GatewayRefusedError(aiohttp.ClientError):
    """The gateway answered something else than 200, or (status 0) could not be asked."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason


class _GatewayConnector(aiohttp.BaseConnector):
    """An aiohttp connector whose connections are streams through the gateway."""

    def __init__(self, gateway_url: str, cluster_id: UUID, service: str) -> None:
        super().__init__(limit=4, keepalive_timeout=55)
        self._gateway = urlsplit(gateway_url)
        self._cluster_id = cluster_id
        self._service = service

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,  # noqa: ARG002 - aiohttp's hook
        traces: list[Trace],  # noqa: ARG002
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002
    ) -> ResponseHandler:
        try:
            async with asyncio.timeout(_GATEWAY_SECONDS):
                transport, handshake = await self._dial()
                try:
                    await handshake.answered
                except BaseException:
                    transport.abort()
                    raise
        except TimeoutError as exc:
            raise _GatewayRefusedError(0, "gateway", "the hub's gateway does not answer") from exc
        except OSError as exc:
            reason = f"the hub's gateway cannot be reached: {exc.strerror or exc}"
            raise _GatewayRefusedError(0, "gateway", reason) from exc
        handler = ResponseHandler(loop=asyncio.get_running_loop())
        transport.set_protocol(handler)
        handler.connection_made(transport)
        transport.resume_reading()
        return handler

    async def _dial(self) -> tuple[asyncio.Transport, _Handshake]:
        loop = asyncio.get_running_loop()
        target = f"{self._service}.{self._cluster_id}:{SERVICE_PORTS[self._service]}"
        head = (
            f"CONNECT {target} HTTP/1.1\r\n"
            f"Proxy-Authorization: Bearer {issue_token(self._cluster_id, self._service)}\r\n\r\n"
        ).encode("ascii")
        parts = self._gateway
        if parts.scheme == "unix":
            return await loop.create_unix_connection(lambda: _Handshake(head), parts.path)
        if parts.scheme == "tcp" and parts.hostname and parts.port:
            return await loop.create_connection(
                lambda: _Handshake(head), parts.hostname, parts.port
            )
        msg = (
            f"OPSCENTER_GATEWAY_URL={parts.geturl()!r} is neither unix:///path nor tcp://host:port"
        )
        raise ImproperlyConfigured(msg)


class _Handshake(asyncio.Protocol):
    """Sends the CONNECT request and waits for the end of the answer's head."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._answer = b""
        self._transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio always gives
        self._transport = transport
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, _ = self._answer.partition(b"\r\n\r\n")
        if not found:
            if len(self._answer) > _HEAD_LIMIT:
                self._fail(_GatewayRefusedError(0, "gateway", "the hub's gateway is not one"))
            return
        if self._transport is not None:
            # The first bytes of the answer belong to the next protocol; hold them back.
            self._transport.pause_reading()
        error = _read_answer(head)
        if error is not None:
            self._fail(error)
        elif not self.answered.done():
            self.answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's hook
        self._fail(_GatewayRefusedError(0, "gateway", "the hub's gateway hung up"))

    def _fail(self, error: _GatewayRefusedError) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)


def _read_answer(head: bytes) -> _GatewayRefusedError | None:
    """Return the gateway's refusal; None when it opened the stream."""
    lines = head.decode("ascii", "replace").split("\r\n")
    found = re.match(r"HTTP/1\.[01] (\d{3})", lines[0])
    if found is None:
        return _GatewayRefusedError(0, "gateway", "the hub's gateway is not one")
    status = int(found[1])
    if status == 200:
        return None
    fields = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    code = fields.get("x-tunnel-error", "gateway")
    return _GatewayRefusedError(
        status, code, fields.get("x-tunnel-reason") or f"the gateway answered {status}"
    )


def _first_line(exc: BaseException) -> str:
    return one_line(str(exc) or type(exc).__name__, 160)
