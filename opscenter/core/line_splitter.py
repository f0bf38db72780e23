"""Cut what a process writes into lines, whatever it writes; standard library only."""

from __future__ import annotations

LONGEST_LINE_BYTES = 65_536
"""What is kept of a line: more than any record of ours takes."""


class LineSplitter:
    """Turns pieces of bytes into lines of text; holds at most one line, of a bounded length.

    A line that is too long ends with how many bytes were left out. Bytes that are not UTF-8
    become the replacement character.
    """

    def __init__(self, longest: int = LONGEST_LINE_BYTES) -> None:
        self._longest = longest
        self._held = bytearray()
        self._left_out = 0

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; return the lines that are whole now, without their ends."""
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            self._hold(end)
            lines.append(self._take())
        self._hold(rest)
        return lines

    def end(self) -> list[str]:
        """Return the last line if the writer ended in the middle of it, else nothing."""
        return [self._take()] if self._held else []

    def _hold(self, piece: bytes) -> None:
        room = self._longest - len(self._held)
        self._held += piece[:room]
        self._left_out += max(0, len(piece) - room)

    def _take(self) -> str:
        text = self._held.decode("utf-8", "replace").rstrip("\r")
        if self._left_out:
            text += f" ... ({self._left_out} bytes left out)"
        self._held.clear()
        self._left_out = 0
        return text
