"""The command: its errors are one line, its end is clean."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from tests.centre import ROOT
from tests.clusters.tunnel.conftest import free_port, until


@pytest.fixture
def environment(starts_servers, short_directory):
    """A data directory of its own with a migrated database, and free ports."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OPSCENTER_")},
        "OPSCENTER_DATA_DIR": str(short_directory / "data"),
        "OPSCENTER_HUB_PORT": str(free_port()),
        "OPSCENTER_HUB_WS_PORT": str(free_port()),
        "REDIS_URL": f"unix://{short_directory}/no-redis.sock",
    }
    env.pop("DATABASE_URL", None)
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0", "--skip-checks"],
        cwd=ROOT, env=env, check=True, timeout=120,
    )  # fmt: skip
    return env


def start(env):
    return subprocess.Popen(
        [sys.executable, "manage.py", "tunnel_hub"],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def last_line(env):
    """Run the command to its end; return its exit code and its last line."""
    process = start(env)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output.strip().splitlines()[-1]


@pytest.mark.parametrize("variable", ["OPSCENTER_HUB_PORT", "OPSCENTER_HUB_WS_PORT"])
def test_a_port_in_use_is_one_line_that_names_port_and_variable(environment, variable):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = str(sock.getsockname()[1])
        code, line = last_line({**environment, variable: port})
    assert code == 2
    assert (
        line
        == f"CommandError: the port {port} on 127.0.0.1 is in use; set {variable} to another one"
    )


def test_bad_settings_are_one_line_that_names_the_variable(environment):
    for variable, value in {
        "OPSCENTER_GATEWAY_URL": "http://127.0.0.1",
        "OPSCENTER_HUB_ID": "x" * 41,
        "OPSCENTER_HUB_HOST_KEY_FILE": "/dev/null",
    }.items():
        code, line = last_line({**environment, variable: value})
        assert code == 2
        assert re.match(rf"(CommandError|manage\.py): {variable}", line)


def test_it_serves_until_sigterm_and_leaves_no_socket(environment):
    process = start(environment)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "SSH on port" in line:
                break
        port = int(environment["OPSCENTER_HUB_PORT"])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            assert sock.recv(64).startswith(b"SSH-2.0-OpsCenter")
        gateway = Path(environment["OPSCENTER_DATA_DIR"]) / "run" / "gateway.sock"
        assert gateway.stat().st_mode & 0o777 == 0o660
        code, line = last_line(
            {
                **environment,
                "OPSCENTER_HUB_PORT": str(free_port()),
                "OPSCENTER_HUB_WS_PORT": str(free_port()),
            }
        )
        assert code == 2
        assert "a hub already serves" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert not gateway.exists()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_killed_hub_leaves_a_socket_that_its_successor_replaces(environment):
    for _ in range(2):
        process = start(environment)
        assert process.stdout is not None
        assert any("SSH on port" in line for line in process.stdout)
        process.kill()
        process.communicate()


# --- few descriptors --------------------------------------------------------------------------

_MAKE_CLUSTER = """
import sys
from clusters.enrolment.services import register_key
from clusters.models import Cluster
from clusters.services import create_cluster
cluster = create_cluster(name="north-1", actor="test")
register_key(cluster, sys.stdin.read(), actor="test")
Cluster.objects.update(status=Cluster.Status.ACTIVE)
print(cluster.pk)
"""


def make_cluster(env, key):
    """Make a cluster with a key in the data directory of a process; return its id."""
    made = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", _MAKE_CLUSTER],
        cwd=ROOT, env=env, input=key.export_public_key().decode(), text=True, check=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    return made.stdout.strip().splitlines()[-1]


def start_with_few_files(env, log):
    """Start a hub that may open 256 files."""
    return subprocess.Popen(
        [sys.executable, "-c", "import resource, os, sys;"
         "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256));"
         "os.execv(sys.executable, [sys.executable, 'manage.py', 'tunnel_hub'])"],
        cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip


class Silent(asyncio.Protocol):
    """A client that says a line and then waits."""

    def __init__(self):
        self.open = True
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"GET /tunnel HTTP/1.1\r\nHost: x\r\n")

    def connection_lost(self, exc):
        self.open = False


async def flood(port, number):
    """Connect so many times from 100 addresses and stay, until 200 are left at most."""
    loop = asyncio.get_running_loop()
    clients = []
    for place in range(number):
        address = (f"127.0.{place % 10}.{place % 100 + 2}", 0)
        with contextlib.suppress(OSError):  # the hub was faster
            _, client = await loop.create_connection(Silent, "127.0.0.1", port, local_addr=address)
            clients.append(client)
    await until(lambda: sum(one.open for one in clients) <= 200, seconds=60)
    for client in clients:
        client.transport.abort()


async def test_a_hub_with_few_descriptors_outlives_2_000_connections(environment, tmp_path):
    key = asyncssh.generate_private_key("ssh-ed25519")
    user = make_cluster(environment, key)
    log = tmp_path / "log"
    with log.open("w") as file:
        process = start_with_few_files(environment, file)
    try:
        async with asyncio.timeout(60):
            while "SSH on port" not in log.read_text():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        tunnel = await asyncssh.connect(
            "127.0.0.1", int(environment["OPSCENTER_HUB_PORT"]), username=user, client_keys=[key],
            known_hosts=None, agent_path=None, config=None,
        )  # fmt: skip
        await tunnel.forward_remote_port("agent", 9099, "127.0.0.1", 9)
        for name in ("OPSCENTER_HUB_WS_PORT", "OPSCENTER_HUB_PORT"):
            await flood(int(environment[name]), 1000)
        assert process.poll() is None
        assert not tunnel.is_closed()
        with pytest.raises(asyncssh.ChannelListenError):  # it still answers
            await tunnel.forward_remote_port("x", 1, "127.0.0.1", 9)
        tunnel.abort()
        await tunnel.wait_closed()
    finally:
        process.terminate()
        process.wait(30)
    assert len(log.read_text().splitlines()) < 20
