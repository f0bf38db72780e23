"""Lines for a person, written by a thread of their own.

The reader of the supervisor's output may stop reading or go away. Neither may keep the supervisor
from its work, least of all from stopping: lines that nobody takes are dropped, and counted when
there is a reader again.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TextIO

_COLOURS = {
    "redis": 31, "web": 32, "hub": 36, "worker": 33, "beat": 35, "agent": 34, "up": 1,
}  # fmt: skip
_LINES_HELD = 10_000


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


class LineWriter:
    """Prints lines behind the name of their process; never blocks and never raises.

    Args:
        stream: the stream to write to.
        colour: True to colour the names.
        width: length of the longest name, in characters.
    """

    def __init__(self, stream: TextIO, *, colour: bool, width: int = 6) -> None:
        self._stream = stream
        self._colour = colour
        self._width = width
        self._lines: queue.Queue[str | None] = queue.Queue(_LINES_HELD)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="output", daemon=True)
        self._thread.start()

    def __call__(self, name: str, line: str) -> None:
        """Accept a line; drop it if thousands are waiting already."""
        label = f"{name:<{self._width}} |"
        if self._colour:
            number = _COLOURS.get(name.partition("-")[0], 0)
            label = f"\x1b[{number}m{label}\x1b[0m"
        try:
            self._lines.put_nowait(f"{label} {line}\n")
        except queue.Full:
            self._dropped += 1

    def close(self, patience_seconds: float = 0.5) -> None:
        """Wait until the accepted lines are written, but no longer than ``patience_seconds``."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return  # nobody reads: there is nobody to wait for
        self._thread.join(patience_seconds)

    def _write_all(self) -> None:
        reader_gone = False
        while (line := self._lines.get()) is not None:
            if reader_gone:
                continue  # discarded, so that memory does not grow
            if self._dropped:
                line = f"up     | {self._dropped} lines were dropped: nobody read them\n{line}"
                self._dropped = 0
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):  # a closed pipe, a closed stream
                reader_gone = True
