"""Log lines: one record is one line, whatever names from outside hold.

A line break in a name could otherwise write a line of its own, and an escape sequence steer the
terminal of who reads. As JSON for machines that collect them, else as text, where a traceback
follows indented.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import orjson


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object: at, level, logger, message, and error if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON line without a line break."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


class TextFormatter(logging.Formatter):
    """Format a record as text without control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the first line."""
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the traceback, every line indented: none can pass for a record."""
        return "\n".join(
            f"    {_escaped(line)}" for line in super().formatException(ei).split("\n")
        )


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in text
    )
