"""Log lines: one record is one line, even with hostile names.

A line break in a name could otherwise forge a line, and an escape sequence control the reader's
terminal. As JSON for machines that collect them, else as text, where a traceback follows indented.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import orjson

from opscenter.core.log_filters import is_no_probe, without_known_traceback


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


def logging_config(level: str, form: str) -> dict[str, Any]:
    """Return Django's LOGGING: every line goes to standard error, in one form.

    Args:
        level: level of the root logger, such as "INFO".
        form: format of the lines, "text" or "json".
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {
                "()": "opscenter.core.logs.TextFormatter",
                "fmt": "%(asctime)s %(levelname)s %(name)s: %(message)s",
            },
            "json": {"()": "opscenter.core.logs.JsonFormatter"},
        },
        "filters": {
            "no_probe": {"()": "django.utils.log.CallbackFilter", "callback": is_no_probe},
            "brief": {"()": "django.utils.log.CallbackFilter", "callback": without_known_traceback},
        },
        "handlers": {
            "console": {"()": "opscenter.core.log_handler.NonBlockingHandler", "formatter": form}
        },
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "asyncssh": {"level": "WARNING"},
            "aiohttp.access": {"level": "WARNING"},
            # Its own handlers would block when nobody reads.
            "uvicorn": {"handlers": ["console"], "level": "WARNING", "propagate": False},
            "uvicorn.access": {"level": "WARNING"},
            "axes": {"level": "WARNING"},
            "django.request": {"filters": ["no_probe"]},
            # A traceback for each request with a made-up Host header only hides others.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            # One line for every task sent, received and done only hides others.
            "celery.beat": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING", "filters": ["brief"]},
        },
    }


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in text
    )
