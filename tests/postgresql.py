"""A private PostgreSQL for a test run: its own directory, a unix socket, no port by default."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote


class MissingProgramError(RuntimeError):
    """A program that the tests need is not installed; the message names the Debian package."""


def find_binaries() -> Path:
    """Return the directory of initdb and postgres, the newest where Debian has several."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0,
    )
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).resolve().parent
    msg = "initdb is missing: apt-get install postgresql"
    raise MissingProgramError(msg)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _as_user(arguments: list[str]) -> list[str]:
    """Return the command so that it does not run as root, which PostgreSQL refuses."""
    if os.getuid() != 0:
        return arguments
    return ["runuser", "-u", "postgres", "--", *arguments]


def _run(arguments: list[str]) -> None:
    done = subprocess.run(
        _as_user(arguments), capture_output=True, text=True, check=False, cwd="/", timeout=120
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        msg = f"{Path(arguments[0]).name} failed with {done.returncode}"
        raise RuntimeError(msg)


@contextlib.contextmanager
def private_postgresql(*, tcp: bool = False, password: str = "") -> Iterator[str]:
    """Start a server, yield its DATABASE_URL, stop it and remove everything.

    Args:
        tcp: whether it listens on a port of the loopback interface, too, and the address names it:
            TLS is not for unix sockets.
        password: of its user; "" if everybody is let in. The address has none.
    """
    binaries = find_binaries()
    directory = Path(tempfile.mkdtemp(prefix="opscenter-pg-"))
    try:
        if os.getuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        data = directory / "data"
        secret = directory / "password"
        secret.write_text(password)
        secret.chmod(0o644)
        method = ["-A", "scram-sha-256", f"--pwfile={secret}"] if password else ["-A", "trust"]
        port = _free_port() if tcp else 5432
        _run([
            str(binaries / "initdb"), "-D", str(data), "-U", "opscenter", *method,
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        ])  # fmt: skip
        # A test database may be lost in a crash: without fsync the run takes a third.
        options = (
            f"-c listen_addresses='{'127.0.0.1' if tcp else ''}' -c port={port}"
            f" -c unix_socket_directories={directory} -c fsync=off"
            " -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
        )
        control = [str(binaries / "pg_ctl"), "-D", str(data), "-w"]
        _run([*control, "-l", str(directory / "log"), "-o", options, "start"])
        try:
            host = f"127.0.0.1:{port}" if tcp else quote(str(directory), safe="")
            yield f"postgres://opscenter@{host}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(directory)
