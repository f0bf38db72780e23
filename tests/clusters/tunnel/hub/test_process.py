"""The command: its errors are one line, its end is clean."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.centre import ROOT
from tests.clusters.tunnel.conftest import free_port


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
