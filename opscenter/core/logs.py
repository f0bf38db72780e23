"""Log lines as JSON, one object a line, for machines that collect them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

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
