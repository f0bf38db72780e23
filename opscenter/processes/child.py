"""One supervised process: started in its own session, its lines passed on, never an orphan."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opscenter.core.line_splitter import LineSplitter

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_PIPE_BYTES = 1 << 20


@dataclass(frozen=True)
class Command:
    """What to run: arguments, and environment variables on top of our own."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def _die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; runs between fork and exec."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request was in place
        os._exit(1)


class Child:
    """A named process, which may be started again and again."""

    def __init__(
        self, name: str, *, directory: Path, write_line: Callable[[str, str], None]
    ) -> None:
        self.name = name
        self.started_at: float | None = None  # Unix seconds, None while nothing runs
        self.ended = asyncio.Event()  # set while nothing runs
        self.ended.set()
        self._directory = directory
        self._write_line = write_line
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id; None while nothing runs."""
        return self._process.pid if self._process else None

    async def run(self, command: Command) -> int:
        """Start the command, pass its lines on until it ends; return its exit status.

        Must be awaited on the main thread: the parent-death signal is tied to the thread.

        Raises:
            OSError: if the program cannot be started.
        """
        read_end, write_end = _pipe()
        parent = os.getpid()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command.arguments,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                env={**os.environ, **command.environment},
                start_new_session=True,
                preexec_fn=lambda: _die_with_parent(parent),
            )
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self.started_at = time.time()
        self.ended.clear()
        try:
            return await self._follow(self._process, read_end)
        finally:
            self.send(signal.SIGKILL)  # what may remain in its process group
            self._process = None
            self.started_at = None
            self.ended.set()

    async def _follow(self, process: asyncio.subprocess.Process, read_end: int) -> int:
        pump = asyncio.create_task(self._pump(read_end))
        status = await process.wait()
        # A grandchild may hold the pipe open: do not wait for it.
        await asyncio.wait([pump], timeout=1)
        pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pump
        return status

    async def _pump(self, read_end: int) -> None:
        """Pass lines on until the pipe closes; the last one even if it has no end."""
        reader, transport = await _reader(read_end)
        splitter = LineSplitter()
        try:
            while chunk := await reader.read(65_536):
                self._pass_on(splitter.feed(chunk))
        finally:
            transport.close()
            self._pass_on(splitter.end())

    def _pass_on(self, lines: list[str]) -> None:
        for line in lines:
            self._write_line(self.name, line)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and everything in its process group, if it runs."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe that holds minutes of log lines, for when we are stopped."""
    read_end, write_end = os.pipe()
    with contextlib.suppress(OSError):  # a system that allows less
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return read_end, write_end


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    """Return a reader of a pipe, and what to close at the end."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader, transport


def describe_status(status: int) -> str:
    """Return an exit status in words: ``exit code 3`` or ``SIGKILL``."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
