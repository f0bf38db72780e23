"""With OPSCENTER_LOG_FORMAT=json: every line of ``manage.py up`` and ``prepare`` is an object.

The command runs in a child; this process reads its output and outlives it, so that even the last
words of an interpreter that crashed become an object, and the end itself is told. It needs the
standard library only, and is there before Django is: errors of the settings are lines too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import threading
from collections.abc import Sequence

from opscenter.core.json_lines import (
    FORMAT_VARIABLE,
    MARK_VARIABLE,
    PROCESS_VARIABLE,
    OutputReader,
    mark_of,
    wrapped,
)
from opscenter.core.line_splitter import LineSplitter

_COMMANDS = {"up": "up", "prepare": "prepare", "tunnel_hub": "hub"}
"""The commands that are services, not tools whose output somebody reads, and their log names."""

_PR_SET_PDEATHSIG = 1
_LAST_LINES_SECONDS = 1.0  # a grandchild may hold the pipes open for longer


def write_json(arguments: Sequence[str]) -> None:
    """Return where the command is to run; everywhere else (text, tools) do nothing.

    With JSON, and if nobody above us makes objects of our lines, this forks: it returns in the
    child only. The parent ends when the child has ended, with its exit code, or 128 and the number
    of the signal that ended it.

    Args:
        arguments: of the program, as in ``sys.argv``.
    """
    process = _COMMANDS.get(arguments[1]) if len(arguments) > 1 else None
    wanted = os.environ.get(FORMAT_VARIABLE, "").strip() == "json"
    if process is None or not wanted or MARK_VARIABLE in os.environ:
        return
    secret = secrets.token_hex(8)
    pipes = {descriptor: os.pipe() for descriptor in (1, 2)}
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become_child(parent, pipes)
        os.environ |= {MARK_VARIABLE: secret, PROCESS_VARIABLE: process}
        return
    for _, write_end in pipes.values():
        os.close(write_end)
    os._exit(_follow(child, OutputReader(process, mark_of(secret), relays=True), pipes))


def _become_child(parent: int, pipes: dict[int, tuple[int, int]]) -> None:
    """Write into the pipes, die with the parent, and leave Ctrl-C to it: it passes signals on."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request was in place
        os._exit(1)
    for descriptor, ends in pipes.items():
        os.dup2(ends[1], descriptor)
        for end in ends:
            os.close(end)


def _follow(child: int, reader: OutputReader, pipes: dict[int, tuple[int, int]]) -> int:
    """Write the child's lines until it ends; return our exit code."""

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    turn = threading.Lock()
    pumps = [
        threading.Thread(target=_pump, args=(ends[0], descriptor, reader, turn), daemon=True)
        for descriptor, ends in pipes.items()
    ]
    for pump in pumps:
        pump.start()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for pump in pumps:
        pump.join(_LAST_LINES_SECONDS)
    if status >= 0:
        return status
    last = wrapped(reader.process, f"ended by {signal.Signals(-status).name}", level="CRITICAL")
    if turn.acquire(timeout=_LAST_LINES_SECONDS):  # else nobody reads
        _write(2, f"{last}\n".encode())
    return 128 - status


def _pump(read_end: int, write_end: int, reader: OutputReader, turn: threading.Lock) -> None:
    """Turn lines into objects until the pipe closes. Waits for whoever reads ours.

    Meanwhile the pipe fills, and the child drops lines by itself.
    """
    splitter = LineSplitter()
    while data := os.read(read_end, 65_536):
        _write_objects(splitter.feed(data), write_end, reader, turn)
    _write_objects(splitter.end(), write_end, reader, turn)


def _write_objects(
    lines: list[str], write_end: int, reader: OutputReader, turn: threading.Lock
) -> None:
    objects = [one for line in lines for one in reader.objects(line)]
    if objects:
        with turn:  # both may lead to the same pipe
            _write(write_end, ("\n".join(objects) + "\n").encode())


def _write(descriptor: int, data: bytes) -> None:
    """Write everything; nothing if the reader is gone."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]
