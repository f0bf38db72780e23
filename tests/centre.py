"""A whole Ops Center for tests: the real ``manage.py up``, its own directory and ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
PROCESSES = ("redis", "web", "hub", "worker", "beat")
_COMMANDS = {
    "redis": "redis-server",
    "web": "uvicorn",
    "hub": "tunnel_hub",
    "worker": " worker ",
    "beat": " beat ",
    "agent": "-m agent",
}
_OURS = ("OPSCENTER_", "DATABASE_", "REDIS_", "METRICS_", "INFLUXDB_", "DJANGO_", "PYTEST_")


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nothing listens on at the moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without anything that configures Ops Center, plus ``more``."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**others, **more}


def wait_until(probe: Callable[[], T], what: str, seconds: float = 120) -> T:
    """Return the probe's first true answer; fail with ``what`` when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = probe()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


class Centre:
    """``manage.py up`` as a child of the test; ports and directory stay over restarts."""

    def __init__(self, data_dir: Path, *options: str, **environment: str) -> None:
        self.data_dir = data_dir
        self.port, self.hub_port, self.hub_ws_port = free_ports(3)
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = options
        self.environment = clean_environment(
            OPSCENTER_DATA_DIR=str(data_dir),
            OPSCENTER_PORT=str(self.port),
            OPSCENTER_HUB_PORT=str(self.hub_port),
            OPSCENTER_HUB_WS_PORT=str(self.hub_ws_port),
            **environment,
        )
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self.supervisors: dict[str, subprocess.Popen[bytes]] = {}  # if each has its own

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another management command in the same environment, to its end."""
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self.environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def start(self) -> None:
        """Start it; returns at once."""
        self.lines = []
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "up", *self.options],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        """Return everything that it has written since it was started."""
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """Wait until a line matches; return the match."""

        def find() -> re.Match[str] | None:
            return next((m for line in list(self.lines) if (m := re.search(pattern, line))), None)

        return wait_until(find, f"a line like {pattern!r}")

    def wait_until_ready(self) -> None:
        """Wait until /readyz says that everything works."""
        try:
            wait_until(lambda: self.status("/readyz") == 200, "/readyz answers 200")
        except AssertionError:
            print(self.get("/readyz"), self.output, sep="\n")
            raise

    @contextmanager
    def simulated_fleet(self, *options: str) -> Iterator[None]:
        """Let simulated clusters dial it until the block ends; options of ``tests.fleet``."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet", *options],
            cwd=ROOT,
            env=self.environment | {"PYTHONPATH": str(ROOT)},
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def status(self, path: str) -> int:
        """Return the HTTP status of a page; 0 if nothing answers."""
        return self.get(path)[0]

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Return status and body of a page; (0, reason) if nothing answers."""
        request = urllib.request.Request(self.url + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()
        except OSError as exc:
            return 0, str(exc)

    def children(self) -> dict[str, int]:
        """Return the process ids of the supervisor's children, by name."""
        assert self.process is not None
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                parent = (directory / "stat").read_text().rsplit(")", 1)[1].split()[1]
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if parent == str(self.process.pid):
                for name, part in _COMMANDS.items():
                    if part in command:
                        numbered = re.search(r" (worker-\d+)@", command)
                        found[numbered[1] if numbered else name] = int(directory.name)
        return found

    def wait_for_children(self, *names: str) -> dict[str, int]:
        """Wait until the named processes run; return all process ids."""
        wait_until(lambda: set(names) <= set(self.children()), f"{names} run")
        return self.children()

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit status. Only a hang fails the test."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)

    def close(self) -> None:
        """End it in whatever state it is."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def is_running(pid: int) -> bool:
    """Return whether a process exists and is more than a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
