"""Streams through the hub's gateway, as an aiohttp connector: CONNECT, then TLS if it is used.

TLS runs inside the stream, from here to the service: neither the hub nor the agent sees into it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from django.core.exceptions import ImproperlyConfigured

from clusters.tunnel.gateway_tokens import issue_token
from clusters.tunnel.protocol import SERVICE_PORTS

_HEAD_LIMIT = 16 * 1024
# The gateway answers within its own 2 s queue and 5 s open.
_GATEWAY_SECONDS = 10.0
_TLS_SECONDS = 10.0


class GatewayRefusedError(aiohttp.ClientError):
    """The gateway answered something other than 200, or (status 0) could not be reached."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason


class TlsRefusedError(aiohttp.ClientError):
    """TLS with the service behind the tunnel failed; the text says why."""


class GatewayConnector(aiohttp.BaseConnector):
    """An aiohttp connector whose connections are streams through the gateway.

    Args:
        gateway_url: ``unix:///path`` or ``tcp://host:port``.
        cluster_id: the cluster to reach.
        service: its service, a name of :data:`~clusters.tunnel.protocol.SERVICE_PORTS`.
        tls: context for TLS inside the stream; None for plain text.
        server_name: the name that the service's certificate must hold; "" if the context checks
            none.
    """

    def __init__(
        self,
        gateway_url: str,
        cluster_id: UUID,
        service: str,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        super().__init__(limit=4, keepalive_timeout=55)
        self._gateway = urlsplit(gateway_url)
        self._cluster_id = cluster_id
        self._service = service
        self._tls = tls
        self._server_name = server_name

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
            raise GatewayRefusedError(0, "gateway", "the hub's gateway does not answer") from exc
        except OSError as exc:
            reason = f"the hub's gateway cannot be reached: {exc.strerror or exc}"
            raise GatewayRefusedError(0, "gateway", reason) from exc
        handler = ResponseHandler(loop=asyncio.get_running_loop())
        if self._tls is not None:
            await self._start_tls(transport, handler)
            return handler
        transport.set_protocol(handler)
        handler.connection_made(transport)
        transport.resume_reading()
        return handler

    async def _start_tls(self, transport: asyncio.Transport, handler: ResponseHandler) -> None:
        """Encrypt the stream and put the handler on it.

        Raises:
            TlsRefusedError: if the two ends do not agree, or the certificate is not trusted.
        """
        assert self._tls is not None  # noqa: S101 - checked by the caller
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport,
                handler,
                self._tls,
                # A name is sent in any case; it is checked only if the context says so.
                server_hostname=self._server_name or self._service,
                ssl_handshake_timeout=_TLS_SECONDS,
            )
        except BaseException as exc:
            transport.abort()
            if isinstance(exc, OSError | ssl.SSLError):
                raise TlsRefusedError(_tls_reason(exc)) from exc
            raise
        if secured is None:
            raise TlsRefusedError("the service hung up")
        handler.connection_made(secured)

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
                self._fail(GatewayRefusedError(0, "gateway", "the hub's gateway is not one"))
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
        self._fail(GatewayRefusedError(0, "gateway", "the hub's gateway hung up"))

    def _fail(self, error: GatewayRefusedError) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)


def _read_answer(head: bytes) -> GatewayRefusedError | None:
    """Return the gateway's refusal; None if it opened the stream."""
    lines = head.decode("ascii", "replace").split("\r\n")
    found = re.match(r"HTTP/1\.[01] (\d{3})", lines[0])
    if found is None:
        return GatewayRefusedError(0, "gateway", "the hub's gateway is not one")
    status = int(found[1])
    if status == 200:
        return None
    fields = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    code = fields.get("x-tunnel-error", "gateway")
    return GatewayRefusedError(
        status, code, fields.get("x-tunnel-reason") or f"the gateway answered {status}"
    )


def _tls_reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return exc.reason or "no TLS is spoken there"
    return str(exc) or type(exc).__name__
