"""A real hub on loopback, agents of both kinds, and a real HTTP target behind them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import asyncssh
import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from clusters.models import Cluster, ClusterKey, ClusterStatus
from clusters.tunnel.client.http_client import ClusterClient
from clusters.tunnel.host_key import ensure_host_key
from clusters.tunnel.hub.limits import Limits
from clusters.tunnel.hub.process import Hub, HubConfig
from clusters.tunnel.protocol import WEBSOCKET_PROTOCOL

# Short enough for tests, long enough for a busy machine.
LIMITS = Limits(
    login_seconds=5,
    keepalive_seconds=15,
    open_seconds=1,
    queue_seconds=0.3,
    replaced_drain_seconds=1,
    seen_seconds=0.3,
    recheck_seconds=30,
    breaker_seconds=0.5,
    shutdown_seconds=1,
)


@pytest.fixture
def limits():
    """The hub's limits; a test module overrides this fixture to change them."""
    return LIMITS


@pytest.fixture
def short_directory(tmp_path_factory):
    """A directory short enough for a unix socket's name."""
    path = Path(tempfile.mkdtemp(prefix="oc"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def hub(starts_servers, transactional_db, settings, short_directory, tmp_path, limits):
    async with running_hub(settings, short_directory, limits) as one:
        yield one


@contextlib.asynccontextmanager
async def running_hub(settings, directory, limits, **changes):
    """Run a hub in this loop, with a gateway on a unix socket and no Redis."""
    settings.HUB_HOST_KEY_PATH = directory / "hub_host_key"
    settings.GATEWAY_URL = changes.get("gateway_url", f"unix://{directory}/gateway.sock")
    config = HubConfig(
        hub_id="hub-1",
        host="127.0.0.1",
        port=0,
        ws_port=0,
        gateway_url=settings.GATEWAY_URL,
        host_key=ensure_host_key(settings.HUB_HOST_KEY_PATH),
        redis_url=f"unix://{directory}/no-redis.sock",
        limits=limits,
    )
    hub = Hub(replace(config, **changes))
    await hub.start()
    if hub.gateway_port:
        settings.GATEWAY_URL = f"tcp://127.0.0.1:{hub.gateway_port}"
    try:
        yield hub
    finally:
        await hub.stop(drain_seconds=0)
        # The thread behind aget() and its like keeps a connection, and PostgreSQL its database.
        await sync_to_async(connections.close_all)()


@dataclass
class Identity:
    """A cluster and the key that it signs in with."""

    cluster: Cluster
    key: asyncssh.SSHKey
    path: Path

    @property
    def user(self) -> str:
        return str(self.cluster.id)


@pytest.fixture
async def identity(hub, tmp_path):
    return await make_identity(tmp_path, "north-1")


@sync_to_async
def make_identity(directory, name, services=()):
    """Make an enrolled cluster with a key on disk."""
    cluster = Cluster.objects.create(
        name=name, status=Cluster.Status.ACTIVE, services=list(services)
    )
    ClusterStatus.objects.get_or_create(cluster=cluster)
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = directory / f"{name}.key"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.export_private_key("openssh"))
    ClusterKey.objects.create(
        cluster=cluster,
        public_key=key.export_public_key().decode().strip(),
        fingerprint=key.get_fingerprint(),
    )
    return Identity(cluster, key, path)


# --- the far end ------------------------------------------------------------------------------


@dataclass
class Target:
    """A tiny HTTP/1.1 server whose answers a test sets as raw bytes, by path."""

    port: int = 0
    answers: dict[str, object] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    open: int = 0

    def set_json(self, path, text, *, headers=()):
        body = text if isinstance(text, bytes) else text.encode()
        self.set(path, body, headers=["Content-Type: application/json", *headers])

    def set(self, path, body, *, status="200 OK", headers=()):
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self.answers[path] = "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def serve(self, reader, writer):
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1].decode()
                self.requests.append(path)
                self.heads.append(head)
                length = re.search(rb"(?i)content-length: (\d+)", head)
                self.bodies.append(await reader.readexactly(int(length[1])) if length else b"")
                answer = self.answers.get(path.partition("?")[0])
                if callable(answer):
                    await answer(writer)
                elif answer is None:
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                else:
                    writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def target(starts_servers):
    one = Target()
    one.set_json("/hello", '{"hello": "world"}')
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, limit=1 << 20)
    one.port = server.sockets[0].getsockname()[1]
    yield one
    server.close()


# --- agents -----------------------------------------------------------------------------------


def known_hosts(hub):
    """Return the line that an agent pins."""
    line = hub.config.host_key.export_public_key().decode().strip()
    return asyncssh.import_known_hosts(f"* {line}\n")


@contextlib.asynccontextmanager
async def asyncssh_agent(hub, identity, target, **options):
    """Connect as our own agent does, with one service forwarded to the target."""
    service = options.pop("service", "agent")
    port = options.pop("service_port", 9099)
    connection = await connect(hub, identity, **options)
    try:
        await connection.forward_remote_port(service, port, "127.0.0.1", target.port)
        yield connection
    finally:
        connection.abort()
        await connection.wait_closed()


async def connect(hub, identity, **options):
    """Sign in with asyncssh and forward nothing yet."""
    return await asyncssh.connect(
        options.pop("host", "127.0.0.1"),
        options.pop("port", hub.port),
        username=options.pop("username", identity.user),
        client_keys=options.pop("client_keys", [identity.key]),
        known_hosts=options.pop("known_hosts", known_hosts(hub)),
        agent_path=None,
        config=None,
        keepalive_interval=options.pop("keepalive_interval", 15),
        client_version=options.pop("client_version", "OpsCenterAgent_0.1.0 instance=aaaa"),
        **options,
    )


@contextlib.asynccontextmanager
async def websocket_agent(hub, identity, target):
    """Connect through the hub's WebSocket address, SSH inside."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://127.0.0.1:{hub.ws_port}/tunnel", protocols=(WEBSOCKET_PROTOCOL,), compress=0
        ) as ws,
    ):
        inner, outer = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=outer)

        async def down():
            async for message in ws:
                writer.write(message.data)
                await writer.drain()
            writer.close()

        async def up():
            while chunk := await reader.read(65536):
                await ws.send_bytes(chunk)
            await ws.close()

        tasks = [asyncio.create_task(down()), asyncio.create_task(up())]
        try:
            connection = await connect(hub, identity, sock=inner, host="hub")
            await connection.forward_remote_port("agent", 9099, "127.0.0.1", target.port)
            yield connection
            connection.abort()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()


def ssh_command(hub, identity, known_hosts_path, *arguments, user=None, key=None):
    """Return the command line of docs/tunnel.md for a stock OpenSSH agent, plus arguments."""
    line = hub.config.host_key.export_public_key().decode().strip()
    known_hosts_path.write_text(f"[127.0.0.1]:{hub.port} {line}\n")
    return [
        "ssh", "-F", "/dev/null", "-T", "-p", str(hub.port), "-i", str(key or identity.path),
        "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known_hosts_path}",
        "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes",
        "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15",
        "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=10", "-o", "BatchMode=yes",
        "-c", "aes128-gcm@openssh.com", *arguments, f"{user or identity.user}@127.0.0.1",
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def stock_agent(hub, identity, target, directory, *, port=9099):
    """Run Debian's ssh as the agent."""
    forward = f"agent:{port}:127.0.0.1:{target.port}"
    command = ssh_command(hub, identity, directory / "known_hosts", "-N", "-R", forward)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run_ssh(command, *, seconds=15):
    """Run ssh to its end; return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, output.decode("utf-8", "replace")


# --- waiting ----------------------------------------------------------------------------------


async def until(condition, *, seconds=15, what=""):
    """Wait for a sync or async condition, with a limit that only a hang reaches."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                value = condition()
                if asyncio.iscoroutine(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.02)
    except TimeoutError:
        message = f"never happened: {what or condition}"
        raise AssertionError(message) from None


def counted(hub, name, **labels):
    """Return what the hub has counted; None for a series that has not begun."""
    return hub.counters.registry.get_sample_value(name, labels)


async def serving(hub, identity):
    """Wait until the hub has a session that serves the cluster."""
    return await until(lambda: hub.registry.serving(identity.cluster.id), what="a serving session")


def client(identity, **options):
    """Return a client of the cluster's agent service."""
    return ClusterClient(
        identity.cluster.id,
        options.pop("service", "agent"),
        deadline_seconds=options.pop("deadline_seconds", 10),
        max_bytes=options.pop("max_bytes", 100_000),
        cluster_name=identity.cluster.name,
        **options,
    )


async def get_json(identity, path="/hello", **options):
    """Ask the target behind the tunnel once."""
    async with client(identity, **options) as one:
        return await one.get_json(path)


def free_port():
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def open_files():
    """Return what this process has open, by name: what leaks shows."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(str(entry.readlink()))
    return names


def listening_ports():
    """Return the TCP ports of this machine that this process listens on."""
    mine = {name for name in open_files() if name.startswith("socket:")}
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and f"socket:[{parts[9]}]" in mine:
                ports.add(int(parts[1].rpartition(":")[2], 16))
    return ports


@pytest.fixture
async def tunnel(hub, identity, target):
    async with asyncssh_agent(hub, identity, target) as connection:
        await serving(hub, identity)
        yield connection
