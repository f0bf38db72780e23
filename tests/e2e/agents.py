"""Real agents of this machine as processes of a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.sources.agent.responses import parse_answer
from tests.centre import ROOT, clean_environment, free_ports, wait_until


class Process:
    """A process whose output is stored; it may be ended and started again."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.command = command
        self.environment = clean_environment(PYTHONUNBUFFERED="1", **environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None

    def start(self, log: Path) -> None:
        """Start it; its output is appended to ``log``."""
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        """Return all of its output so far."""
        return self._log.read_text(errors="replace") if self._log else ""

    def wait_for(self, words: str, seconds: float = 60) -> None:
        """Wait until its output holds ``words``."""
        try:
            wait_until(lambda: words in self.output, f"it says {words!r}", seconds)
        except AssertionError:
            print(self.output)
            raise

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal to it and its children and return its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        return self._process.wait(30)

    def exit_code(self, seconds: float = 60) -> int:
        """Wait for its own end; return the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def close(self) -> None:
        """End it if it runs."""
        if self._process is not None:
            self.end()


class Agent(Process):
    """``python -m agent`` with a data directory and a known port of its own.

    Variables are named without ``OPSCENTER_AGENT_``.
    """

    def __init__(self, directory: Path, command: str, **variables: str) -> None:
        self.data_dir = directory
        [self.port] = free_ports(1)
        given = {
            "DATA_DIR": str(directory),
            "LISTEN": f"127.0.0.1:{self.port}",
            "COLLECTOR": "host",
            "FIRST_CONNECT_SECONDS": "0",
            **variables,
        }
        named = {f"OPSCENTER_AGENT_{name}": value for name, value in given.items()}
        super().__init__(sys.executable, "-m", "agent", command, **named)

    def run(self) -> None:
        """Start it."""
        self.start(self.data_dir.with_name(f"{self.data_dir.name}.log"))

    def range(self, start: int, end: int) -> dict[str, Any]:
        """Return what its own local API answers for a range, in one piece."""
        url = f"http://127.0.0.1:{self.port}/v1/range?start={start}&end={end}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return dict(json.loads(answer.read()))

    def rows(self, start: int, end: int) -> list[MinuteRow]:
        """Return every row of its spool in ``[start, end)``."""
        found: list[MinuteRow] = []
        while start < end:
            piece = parse_answer(self.range(start, end), start, end, now=end + 60)
            assert piece.end > start, "the agent has not closed these minutes yet"
            found += piece.rows
            start = piece.end
        return found

    def cells(self, start: int, end: int) -> dict[tuple[SeriesKey, str], dict[int, Cell]]:
        """Return its spool by series, field and minute."""
        held: dict[tuple[SeriesKey, str], dict[int, Cell]] = {}
        for row in self.rows(start, end):
            for field, cell in zip(FIELD_NAMES[row.key.kind], row.cells, strict=True):
                if cell is not None:
                    held.setdefault((row.key, field), {})[row.ts] = cell
        return held
