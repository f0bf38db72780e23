"""A real hub of this data directory, with one cluster behind it, for benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import asyncssh
from django.conf import settings
from django.db import connection

from agent.state import ensure_key, public_line
from clusters.enrolment.services import register_key
from clusters.services import create_cluster
from clusters.tunnel.gateway_tokens import issue_token
from clusters.tunnel.host_key import host_key_line
from tests.bench.load import Opener, Stream, get
from tests.bench.openssh import wait_for_port

_AGENT_PORT = 9099


@contextlib.contextmanager
def running_hub() -> Iterator[int]:
    """Run ``manage.py tunnel_hub`` with this process's settings; yield its process id."""
    environment = {**os.environ, "OPSCENTER_LOG_LEVEL": "WARNING"}
    process = subprocess.Popen([sys.executable, "manage.py", "tunnel_hub"], env=environment)
    try:
        wait_for_port(settings.HUB_PORT, 30)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def our_tunnel(
    target_port: int, directory: Path, *, stock_client: bool = False
) -> Iterator[Opener]:
    """Put a target behind the running hub; yield an opener through the gateway.

    Args:
        target_port: port of the target, on loopback.
        directory: directory of the agent's key.
        stock_client: True to use OpenSSH's ``ssh -R`` as the agent instead of ours.
    """
    directory.mkdir(parents=True, exist_ok=True)
    key = ensure_key(directory)
    name = "bench-stock" if stock_client else "bench-agent"
    cluster = create_cluster(name=name, actor="bench")
    register_key(cluster, public_line(key), actor="bench")
    command = (_stock if stock_client else _agent)(directory, cluster.pk, target_port, key)
    connection.close()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        opener = gateway_opener(cluster.pk)
        asyncio.run(_wait(opener))
        yield opener
    finally:
        process.terminate()
        process.wait()


def gateway_opener(cluster_id: UUID) -> Opener:
    """Return an opener of streams to the cluster's agent service, by CONNECT at the gateway."""

    async def opener() -> Stream:
        path = settings.GATEWAY_URL.removeprefix("unix://")
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        target = f"agent.{cluster_id}:{_AGENT_PORT}"
        token = issue_token(cluster_id, "agent")
        writer.write(
            f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
            f"Proxy-Authorization: Bearer {token}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            writer.close()
            raise ConnectionError(head.decode())
        return reader, writer

    return opener


def _agent(directory: Path, cluster_id: UUID, port: int, key: asyncssh.SSHKey) -> list[str]:
    del key
    address = f"127.0.0.1:{settings.HUB_PORT}"
    return [
        *(sys.executable, "-m", "tests.bench.agent_end"),
        *(str(directory), str(cluster_id), address, host_key_line(), str(port)),
    ]


def _stock(directory: Path, cluster_id: UUID, port: int, key: asyncssh.SSHKey) -> list[str]:
    known, private = directory / "known_hosts", directory / "agent.key"
    known.write_text(f"[127.0.0.1]:{settings.HUB_PORT} {host_key_line()}\n")
    del key
    return [
        *("ssh", "-F", "/dev/null", "-N", "-T", "-p", str(settings.HUB_PORT), "-i", str(private)),
        *("-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
        *("-o", "ExitOnForwardFailure=yes", "-c", "aes128-gcm@openssh.com"),
        *("-R", f"agent:{_AGENT_PORT}:127.0.0.1:{port}", f"{cluster_id}@127.0.0.1"),
    ]


async def _wait(opener: Opener) -> None:
    """Return once a request passes the tunnel.

    Raises:
        TimeoutError: if none does within 20 s.
    """
    async with asyncio.timeout(20):
        while True:
            try:
                stream = await opener()
                await get(stream, 10)
                stream[1].close()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.2)
            else:
                return
