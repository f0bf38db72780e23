"""Other servers of a benchmark: started on free ports, measured by the kernel's figures."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class MissingServerError(Exception):
    """A server is not installed; the message names its package."""


def find(program: str, package: str) -> str:
    """Return a program's path.

    Raises:
        MissingServerError: if it is not on the PATH.
    """
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        msg = f"{program} is missing: apt-get install {package}"
        raise MissingServerError(msg)
    return path


@contextlib.contextmanager
def running(command: Sequence[str], ready_url: str, log: Path) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once it answers.

    Raises:
        RuntimeError: if it ends at once or does not answer; with the end of its log.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for(
                lambda: process.poll() is not None or _answers(ready_url), f"{command[0]} answers"
            )
            if process.poll() is not None:
                msg = f"{command[0]} ended: {log.read_text()[-2000:]}"
                raise RuntimeError(msg)
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


def wait_for(probe: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Return once the probe is true.

    Raises:
        RuntimeError: if it is not in time.
    """
    give_up_at = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > give_up_at:
            msg = f"not within {seconds} s: {what}"
            raise RuntimeError(msg)
        time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds, user and system, that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def size_of(directory: Path) -> int:
    """Return the bytes of all files below a directory, holes and rounding to blocks left out.

    Files that are deleted meanwhile count nothing.
    """
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found = path.stat()
                total += min(found.st_size, 512 * found.st_blocks)
    return total


def call(url: str, body: bytes | None = None) -> bytes:
    """Return what a GET, or a POST if there is a body, answers.

    Raises:
        RuntimeError: names the status and the server's answer.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=300) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as exc:
        msg = f"{url}: {exc.code}: {exc.read()[:500]!r}"
        raise RuntimeError(msg) from exc


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status < 300)
    except OSError:
        return False
