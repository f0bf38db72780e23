"""A small hub for tests: a real asyncssh server with everything that an agent can meet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncssh
from aiohttp import WSMsgType, web

from agent.state import Enrolment, public_line

CLUSTER_ID = "7f0f9a53-9d2f-4b6d-8d58-0f8d2d6a3c11"


@dataclass
class FakeHub:
    """Accepts the agents whose public key it knows; holds their forwards and opens channels."""

    allowed: set[tuple[str, int]] = field(default_factory=lambda: {("agent", 9099)})
    known: set[bytes] = field(default_factory=set)  # public key blobs
    banner: str = ""
    host_key: asyncssh.SSHKey = field(
        default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519")
    )
    port: int = 0
    ws_port: int = 0
    sessions: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    forwards: list[tuple[str, int]] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    ws_opened: int = 0

    def know(self, key: asyncssh.SSHKey) -> None:
        self.known.add(key.public_data)

    def enrolment(self, **changes: Any) -> Enrolment:
        values: dict[str, Any] = {
            "cluster_id": CLUSTER_ID,
            "cluster_name": "lab",
            "addresses": (f"127.0.0.1:{self.port}",),
            "ws_urls": (),
            "host_keys": (public_line(self.host_key),),
            "keepalive_seconds": 15,
            "url": "http://127.0.0.1:1",
            "token_digest": "",
        }
        return Enrolment(**{**values, **changes})

    def options(self) -> dict[str, Any]:
        return {
            "server_factory": lambda: _Server(self),
            "server_host_keys": [self.host_key],
            "keepalive_interval": 15,
            "login_timeout": 20,
        }

    async def get(self, path: str = "/", *, host: str = "agent", port: int = 9099) -> bytes:
        """Return what a service answers to a bare HTTP request through the newest session."""
        reader, writer = await self._open(host, port)
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    async def _open(self, host: str, port: int) -> Any:
        """Open a channel. asyncssh registers a forward a moment after its acceptance arrived."""
        for _ in range(50):
            try:
                return await self.sessions[-1].open_connection(host, port, "hub", 0)
            except asyncssh.ChannelOpenError as exc:
                if exc.reason != "No such listener" or (host, port) not in self.allowed:
                    raise
            await asyncio.sleep(0.02)
        raise AssertionError("the forward was never registered")

    async def wait_session(self, seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            await self.arrived.wait()
        self.arrived.clear()


class _Server(asyncssh.SSHServer):
    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub
        self.conn: Any = None

    def connection_made(self, conn):
        self.conn = conn

    def begin_auth(self, username):
        self.hub.users.append(username)
        if self.hub.banner:
            self.conn.send_auth_banner(self.hub.banner)
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return key.public_data in self.hub.known

    def server_requested(self, listen_host, listen_port):
        if (listen_host, listen_port) not in self.hub.allowed:
            return False
        self.hub.forwards.append((listen_host, listen_port))
        if (listen_host, listen_port) == ("agent", 9099):
            self.hub.sessions.append(self.conn)
            asyncio.get_running_loop().call_soon(self.hub.arrived.set)
        return _Listener()


class _Listener(asyncssh.SSHListener):
    def get_addresses(self):
        return []

    def get_port(self):
        return 9099

    def close(self):
        pass

    async def wait_closed(self):
        pass


@contextlib.asynccontextmanager
async def running_hub(
    hub: FakeHub | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeHub]:
    """Run the hub on TCP and WebSocket; a second run keeps its ports and its key."""
    hub = hub or FakeHub()
    acceptor = await asyncssh.listen("127.0.0.1", hub.port, **hub.options())
    hub.port = acceptor.get_port()
    runner = web.AppRunner(_websocket_app(hub))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", hub.ws_port, shutdown_timeout=0.1, ssl_context=tls)
    await site.start()
    hub.ws_port = runner.addresses[0][1]
    try:
        yield hub
    finally:
        acceptor.close()
        for session in hub.sessions:
            session.abort()
        await acceptor.wait_closed()
        await runner.cleanup()


def _websocket_app(hub: FakeHub) -> web.Application:
    async def tunnel(request: web.Request) -> web.WebSocketResponse:
        channel = web.WebSocketResponse(protocols=("opscenter-ssh-v1",), compress=False)
        await channel.prepare(request)
        hub.ws_opened += 1
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()

        async def outwards() -> None:
            while chunk := await loop.sock_recv(ours, 65536):
                await channel.send_bytes(chunk)
            await channel.close()

        async def serve() -> None:
            await asyncssh.run_server(theirs, **hub.options())

        pump = asyncio.create_task(outwards())
        server = asyncio.create_task(serve())
        try:
            async for message in channel:
                if message.type is WSMsgType.BINARY:
                    await loop.sock_sendall(ours, message.data)
        finally:
            pump.cancel()
            server.cancel()
            await asyncio.gather(pump, server, return_exceptions=True)
            ours.close()
        return channel

    app = web.Application()
    app.router.add_get("/tunnel", tunnel)
    return app
