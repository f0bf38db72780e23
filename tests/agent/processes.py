"""Real processes of the agent and of ssh, ended with the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Running:
    """A process and its output so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""
        self._written = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.output += line.decode(errors="replace")
            self._written.set()

    async def says(self, words: str, seconds: float = 20) -> str:
        """Wait until the output holds ``words``; return all of it."""
        try:
            async with asyncio.timeout(seconds):
                while words not in self.output:
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError as exc:
            raise AssertionError(f"{words!r} was not said in:\n{self.output}") from exc
        return self.output

    async def end(self, seconds: float = 20) -> int:
        """Wait for the end; return the exit code."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await self._reader
        return code


@contextlib.asynccontextmanager
async def running(
    *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> AsyncIterator[Running]:
    """Run a command; end it with its children at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    started = Running(process)
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):  # it and all of its children ended
            os.killpg(process.pid, signal.SIGKILL)
        await started.end()


def agent(*arguments: str, **variables: str) -> contextlib.AbstractAsyncContextManager[Running]:
    """Run ``python -m agent``; variables are named without OPSCENTER_AGENT_."""
    environment = {f"OPSCENTER_AGENT_{name}": value for name, value in variables.items()}
    return running(sys.executable, "-m", "agent", *arguments, environment=environment)
