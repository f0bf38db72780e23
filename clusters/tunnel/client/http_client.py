"""An HTTP client for one service of one cluster: what every pull goes through.

It asks the hub's gateway for a stream to ``<service>.<cluster>`` and speaks plain HTTP over it.
A hostile answer costs at most the deadline and the cap: no redirects, no cookies, no proxies
from the environment, and compressed bodies are inflated here, up to the cap and not a byte more.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import aiohttp
import orjson
from django.conf import settings

from clusters.tunnel.client.connector import GatewayConnector, GatewayRefusedError, TlsRefusedError
from clusters.tunnel.client.refusals import refusal, refusal_text, secrets_of, without_secrets
from clusters.tunnel.client.tls import TlsIdentity
from clusters.tunnel.protocol import SERVICE_PORTS
from opscenter.core.errors import (
    BadResponseError,
    ClusterError,
    ClusterUnreachableError,
    ConsentOffError,
    GatewayDownError,
    Problem,
    ServiceUnavailableError,
)
from opscenter.core.text import one_line

_NOTHING: Mapping[str, str] = {}
_CHUNK = 64 * 1024
_REFUSAL_BYTES = 4096  # of a refusal's body: enough for its first sentences
_REFUSAL_SECONDS = 2.0  # a refusal whose body does not come is reported without it
# Gateway codes that mean "the tunnel", not "the service behind it".
_TUNNEL_CODES = frozenset(
    {"no_tunnel", "tunnel_lost", "draining", "unknown_cluster", "token", "bad_request"}
)


class ClusterClient:
    """Asks one service of one cluster. An async context manager; not shared between tasks.

    Args:
        cluster_id: the cluster to ask.
        service: its service, a name of :data:`~clusters.tunnel.protocol.SERVICE_PORTS`.
        deadline_seconds: limit of each request, from the first byte sent to the last one read.
        max_bytes: largest decoded body in bytes; one more is refused.
        cluster_name: the cluster in messages; "" for its id.
        headers: sent with every request, e.g. ``Authorization``; never logged or shown.
        path_prefix: put before every path, e.g. ``/prometheus``; "" for none.
        tls: how to speak TLS with the service; None for plain HTTP inside the tunnel.

    Attributes:
        server_date: the ``Date`` header of the last answer as Unix seconds, within half a second;
            None if it had none.
    """

    def __init__(
        self,
        cluster_id: UUID,
        service: str,
        *,
        deadline_seconds: float,
        max_bytes: int,
        cluster_name: str = "",
        headers: Mapping[str, str] = _NOTHING,
        path_prefix: str = "",
        tls: TlsIdentity | None = None,
    ) -> None:
        self._cluster_id = cluster_id
        self._service = service
        self._deadline_seconds = deadline_seconds
        self._max_bytes = max_bytes
        self._subject = f"{service} of {cluster_name or cluster_id}"
        self._headers = dict(headers)
        self._path_prefix = path_prefix
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self.server_date: float | None = None

    async def __aenter__(self) -> Self:
        """Open the client; nothing is sent yet.

        Raises:
            InvalidInputError: if a certificate of ``tls`` cannot be used.
        """
        connector = GatewayConnector(
            settings.GATEWAY_URL,
            self._cluster_id,
            self._service,
            tls=self._tls.context() if self._tls is not None else None,
            server_name=self._tls.server_name if self._tls is not None else "",
        )
        self._session = aiohttp.ClientSession(
            # Always http: TLS, if any, is the connector's job.
            base_url=f"http://{self._service}.{self._cluster_id}:{SERVICE_PORTS[self._service]}",
            connector=connector,
            headers=self._headers,
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
        if isinstance(value, ClusterError):
            # A service may repeat what it was sent in an answer, too, and errors are shown.
            text = without_secrets(str(value), secrets_of(self._headers))
            value.args = (text,)
        if self._session is not None:
            await self._session.close()

    async def get_json(
        self,
        path: str,
        params: Mapping[str, str] = _NOTHING,
        *,
        before_parsing: Callable[[], object] = lambda: None,
    ) -> Any:
        """Return the JSON value of ``GET path``; NaN and Infinity are no JSON.

        Args:
            path: the path to get, starting with "/".
            params: parameters of the query.
            before_parsing: called once the answer is complete; may block the event loop.

        Raises:
            ClusterUnreachableError: if the tunnel or the hub is down.
            ConsentOffError: if the agent does not offer the service.
            ServiceUnavailableError: if the service refuses, is too slow, or answers 5xx.
            BadResponseError: for another status, a redirect, a body over the cap, one that is not
                JSON by its Content-Type or its text, or one that cannot be inflated; ``problem``
                says which.
        """
        body, kind = await self._ask("GET", path, params=params, accept="application/json")
        before_parsing()
        return self._parse(body, kind)

    async def post_form_json(
        self,
        path: str,
        form: Mapping[str, str],
        *,
        before_parsing: Callable[[], object] = lambda: None,
    ) -> Any:
        """Return the JSON value of a form's answer; for queries too long for an address.

        Raises:
            ClusterError: as :meth:`get_json`.
        """
        body, kind = await self._ask("POST", path, form=form, accept="application/json")
        before_parsing()
        return self._parse(body, kind)

    async def get_text(
        self, path: str, params: Mapping[str, str] = _NOTHING, *, accept: str = "text/plain"
    ) -> str:
        """Return the text of ``GET path``, whatever its Content-Type; it must be UTF-8.

        Raises:
            ClusterError: as :meth:`get_json`.
        """
        body, _ = await self._ask("GET", path, params=params, accept=accept)
        return self._decode(body)

    async def post_text(
        self,
        path: str,
        body: Any,
        params: Mapping[str, str] = _NOTHING,
        *,
        accept: str = "text/plain",
    ) -> str:
        """Send ``body`` as JSON and return the answer as text; it must be UTF-8.

        Raises:
            ClusterError: as :meth:`get_json`.
        """
        answer, _ = await self._ask("POST", path, params=params, json=body, accept=accept)
        return self._decode(answer)

    async def get_bytes(self, path: str, params: Mapping[str, str] = _NOTHING) -> bytes:
        """Return the decoded body of ``GET path``, whatever its Content-Type.

        Raises:
            ClusterError: as :meth:`get_json`.
        """
        body, _ = await self._ask("GET", path, params=params, accept="*/*")
        return bytes(body)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        params: Mapping[str, str] = _NOTHING,
        form: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> tuple[bytearray, str]:
        """Return the decoded body and its Content-Type, "" if it has none."""
        if self._session is None:
            msg = "use ClusterClient in an async with statement"
            raise RuntimeError(msg)
        headers = {"Accept": accept, "Accept-Encoding": "gzip, deflate"}
        data: Mapping[str, str] | bytes | None = form
        if json is not None:
            headers["Content-Type"], data = "application/json", orjson.dumps(json)
        try:
            async with (
                asyncio.timeout(self._deadline_seconds),
                self._session.request(
                    method,
                    self._path_prefix + path,
                    params=params,
                    data=data,
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                self.server_date = _date_of(response)
                if response.status != 200:
                    raise await self._refusal(response)
                body = await self._read(response)
                return body, response.headers.get("Content-Type", "")
        except (
            TimeoutError,
            aiohttp.ClientError,
            aiohttp.http.HttpProcessingError,
            OSError,
        ) as exc:
            raise self._translated(exc) from exc

    def _translated(self, exc: Exception) -> ClusterError:
        """Translate an error of aiohttp or the operating system into ours."""
        match exc:
            case TimeoutError():
                msg = f"{self._subject}: no complete answer within {self._deadline_seconds:g} s"
                return ServiceUnavailableError(msg)
            case GatewayRefusedError():
                return self._refused(exc)
            case TlsRefusedError():
                return ServiceUnavailableError(f"{self._subject}: TLS failed: {_first_line(exc)}")
            case aiohttp.ClientPayloadError() | aiohttp.http.HttpProcessingError():
                what = f"broke off or garbled its answer: {_first_line(exc)}"
                return self._bad(what, "cut_off")
            case aiohttp.ClientResponseError():
                return self._bad(f"did not speak HTTP: {_first_line(exc)}")
        msg = f"{self._subject}: the connection failed: {_first_line(exc)}"
        return ServiceUnavailableError(msg)

    async def _refusal(self, response: aiohttp.ClientResponse) -> ClusterError:
        """Return the error of an answer whose status is not 200, with what its body says."""
        body, broke_off = b"", ""
        try:
            async with asyncio.timeout(min(_REFUSAL_SECONDS, self._deadline_seconds / 2)):
                while len(body) < _REFUSAL_BYTES:
                    chunk = await response.content.read(_REFUSAL_BYTES - len(body))
                    if not chunk:
                        break
                    body += chunk
        except (TimeoutError, aiohttp.ClientError, OSError):
            broke_off = " (the rest of its text did not come)"
        if response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "deflate"):
            body = _inflated_start(body)
        text = refusal_text(body, secrets_of(self._headers))
        return refusal(self._subject, response.status, f"{text}{broke_off}".strip())

    def _parse(self, body: bytearray, content_type: str) -> Any:
        kind = content_type.partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            what = f"answered {one_line(kind, 60) or 'no Content-Type'}, not JSON"
            raise self._bad(what, "not_json")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            what = f"sent what is not JSON: {one_line(str(exc), 120)}"
            raise self._bad(what, "not_json") from exc

    def _decode(self, body: bytearray) -> str:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise self._bad(f"sent what is not UTF-8: {one_line(str(exc), 120)}") from exc

    async def _read(self, response: aiohttp.ClientResponse) -> bytearray:
        """Read and inflate the body, never holding more than the cap."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise self._bad(f"used the encoding {one_line(encoding, 20)!r}, which was not asked")
        length = response.content_length
        if length is not None and length > self._max_bytes:
            what = f"announced {length} bytes, more than the cap of {self._max_bytes}"
            raise self._bad(what, "too_large")
        body = bytearray()
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if encoding != "identity" else None
        async for chunk in response.content.iter_chunked(_CHUNK):
            self._append(body, chunk, inflate)
            await asyncio.sleep(0)  # a fast sender must not hold the loop past the deadline
        if inflate is not None and not inflate.eof:
            raise self._bad("sent a compressed body that breaks off", "cut_off")
        return body

    def _append(self, body: bytearray, chunk: bytes, inflate: Any) -> None:
        if inflate is not None:
            try:
                chunk = inflate.decompress(chunk, self._max_bytes - len(body) + 1)
            except zlib.error as exc:
                raise self._bad(f"sent a body that cannot be inflated: {exc}") from exc
        body += chunk
        if len(body) > self._max_bytes:
            raise self._bad(f"sent more than the cap of {self._max_bytes} bytes", "too_large")
        if inflate is not None and inflate.unused_data:
            raise self._bad("sent bytes after the end of its compressed body")

    def _bad(self, what: str, problem: Problem = "") -> BadResponseError:
        return BadResponseError(f"{self._subject}: {what}", problem=problem)

    def _refused(self, exc: GatewayRefusedError) -> ClusterError:
        text = f"{self._subject}: {exc.reason}"
        if exc.status == 0:
            return GatewayDownError(text)
        if exc.code in _TUNNEL_CODES:
            return ClusterUnreachableError(text)
        if exc.code == "no_service":
            return ConsentOffError(text)
        return ServiceUnavailableError(text)


def _date_of(response: aiohttp.ClientResponse) -> float | None:
    """Return an answer's ``Date`` as Unix seconds; None if it has none that can be read.

    Servers cut it to whole seconds, so it is half a second too early on average: that is added.
    """
    try:
        return parsedate_to_datetime(response.headers.get("Date", "")).timestamp() + 0.5
    except (ValueError, OverflowError):
        return None


def _inflated_start(body: bytes) -> bytes:
    """Return the start of a compressed text; b"" if it cannot be inflated."""
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, _REFUSAL_BYTES)
    except zlib.error:
        return b""


def _first_line(exc: BaseException) -> str:
    return one_line(str(exc) or type(exc).__name__, 160)
