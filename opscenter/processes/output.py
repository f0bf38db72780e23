"""The supervisor's lines, written by a thread of their own, for a person or for machines.

The reader of the supervisor's output may stop reading or go away. Neither may keep the supervisor
from its work, least of all from stopping or from emptying its children's pipes: lines that nobody
takes are dropped, and counted when there is a reader again.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Protocol, TextIO

from opscenter.core.json_lines import OutputReader, mark_of, wrapped

_COLOURS = {
    "redis": 31, "web": 32, "hub": 36, "worker": 33, "beat": 35, "agent": 34, "up": 1,
}  # fmt: skip
_CHARACTERS_HELD = 8_000_000  # some 50,000 usual lines


class WriteLine(Protocol):
    """Takes a line of a process."""

    def __call__(self, name: str, line: str, level: str | None = None) -> None:
        """Take a line; ``level`` is given for lines of our own, None for what a child wrote."""


class Form(Protocol):
    """How a line is written."""

    def __call__(self, name: str, line: str, level: str | None) -> str:
        """Return the text for a line, without its end; "" for nothing."""


def discard_unwritten(stream: TextIO) -> None:
    """Discard what a stream still holds if its reader is gone; else do nothing.

    Python flushes its standard streams once more when it exits; if that fails, the exit code is
    120.
    """
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except ValueError:
        return  # it is closed: there is nothing left to flush


class TextForm:
    """Lines for a person: behind the name of their process, without control characters.

    Args:
        colour: True to colour the names.
        width: length of the longest name, in characters.
    """

    def __init__(self, *, colour: bool, width: int = 6) -> None:
        self._colour = colour
        self._width = width

    def __call__(self, name: str, line: str, level: str | None) -> str:
        """Return the line behind its name."""
        del level
        label = f"{name:<{self._width}} |"
        if self._colour:
            number = _COLOURS.get(name.partition("-")[0], 0)
            label = f"\x1b[{number}m{label}\x1b[0m"
        return f"{label} {_printable(line)}"


class JsonForm:
    """One JSON object per line, with the process that wrote it.

    Args:
        children: the secret of those children that write records.
        own: our own secret, if a process reads our output that knows it; "" if not.
    """

    def __init__(self, *, children: str, own: str = "") -> None:
        self._children = mark_of(children)
        self._own = mark_of(own)

    def __call__(self, name: str, line: str, level: str | None) -> str:
        """Return the line as objects: usually one."""
        if level is not None:
            found = [wrapped(name, line, level=level)]
        else:
            found = OutputReader(name, self._children).objects(line)
        return "\n".join(self._own + one for one in found)


class LineWriter:
    """Writes lines in a thread; never blocks and never raises."""

    def __init__(self, stream: TextIO, form: Form) -> None:
        self._stream = stream
        self._form = form
        self._lines: deque[str] = deque()
        self._held = 0  # characters in it
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()  # guards all of these
        self._thread = threading.Thread(target=self._write_all, name="output", daemon=True)
        self._thread.start()

    def __call__(self, name: str, line: str, level: str | None = None) -> None:
        """Accept a line; drop it if megabytes are waiting already."""
        text = self._form(name, line, level)
        if not text:
            return
        with self._changed:
            if self._held + len(text) > _CHARACTERS_HELD:
                self._dropped += 1
                return
            if self._dropped:
                self._hold(self._told())
            self._hold(text)
            self._changed.notify()

    def close(self, patience_seconds: float = 0.5) -> None:
        """Wait until the accepted lines are written, but no longer than ``patience_seconds``."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience_seconds)

    def _write_all(self) -> None:
        reader_gone = False
        while (text := self._next()) is not None:
            if reader_gone:
                continue  # discarded, so that memory does not grow
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # a closed pipe, a closed stream
                reader_gone = True

    def _next(self) -> str | None:
        """Return what is to be written next; None at the end."""
        with self._changed:
            while not self._lines:
                if self._dropped:
                    return self._told()
                if self._closing:
                    return None
                self._changed.wait()
            text = self._lines.popleft()
            self._held -= len(text)
            return text

    def _hold(self, text: str) -> None:
        self._lines.append(text)
        self._held += len(text)

    def _told(self) -> str:
        dropped, self._dropped = self._dropped, 0
        return self._form("up", f"{dropped} lines were dropped: nobody read them", "WARNING")


def _printable(line: str) -> str:
    """Return a line without control characters, which could control the reader's terminal."""
    return "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in line
    )
