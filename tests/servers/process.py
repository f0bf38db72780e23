"""Real servers as processes of a test run: free ports, own directories, ended by their id."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS = 60
_PORT_TAKEN = ("address already in use", "bind:")


class ServerError(RuntimeError):
    """A server did not start; the message holds the end of what it said."""


class PortTakenError(ServerError):
    """Somebody else took the port between its choice and its use."""


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    ready_url: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block; enter it once ``ready_url`` answers.

    Raises:
        PortTakenError: it could not have its port; take another one.
        ServerError: it ended, or was not ready in time.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        _wait(process, command[0], ready_url, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def serving(
    command: Callable[[int], Sequence[str]],
    *,
    ready: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a server on a free port; yield the port once the path ``ready`` answers.

    Args:
        command: makes the command line for a port.
        ready: path that answers with 2xx once the server is ready.
        log: file for what the server says.
        environment: of the process; that of the tests if None.
    """
    with contextlib.ExitStack() as stack:
        for attempt in range(5):
            port = free_port()
            url = f"http://127.0.0.1:{port}{ready}"
            try:
                process = running(command(port), ready_url=url, log=log, environment=environment)
                stack.enter_context(process)
            except PortTakenError:
                if attempt == 4:
                    raise
            else:
                break
        yield port


def _wait(process: subprocess.Popen[bytes], name: str, url: str, log: Path) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            said = log.read_text(errors="replace")[-2000:]
            kind = PortTakenError if any(s in said for s in _PORT_TAKEN) else ServerError
            raise kind(f"{name} ended with {process.returncode}: {said}")
        if answers(url):
            return
        time.sleep(0.05)
    raise ServerError(f"{name} is not ready after {START_SECONDS} s: {log.read_text()[-2000:]}")


def answers(url: str) -> bool:
    """Tell whether an address answers with a status of 2xx, or asks who we are."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return 200 <= answer.status < 300
    except urllib.error.HTTPError as exc:
        return exc.code == 401
    except (urllib.error.URLError, OSError):
        return False
