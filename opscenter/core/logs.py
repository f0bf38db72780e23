"""Log lines: one record is one line, even with hostile names.

A line break in a name could otherwise forge a line, and an escape sequence control the reader's
terminal. As JSON for machines that collect them, else as text, where a traceback follows indented.
"""

from __future__ import annotations

import logging
import logging.config
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from opscenter.core.json_lines import (
    MARK_VARIABLE,
    PROCESS_VARIABLE,
    Value,
    json_line,
    mark_of,
    rfc3339,
)
from opscenter.core.log_context import FIELDS
from opscenter.core.log_filters import is_no_probe, without_known_traceback
from opscenter.core.log_handler import message_of

# asyncio's, while no descriptor is free: it would come with every connection that waits.
_NO_DESCRIPTOR = "socket.accept() out of system resource"

_log = logging.getLogger("uncaught")


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object (``docs/operations.md`` lists the fields)."""

    def __init__(self) -> None:
        super().__init__()
        self._mark = mark_of(os.environ.get(MARK_VARIABLE, ""))
        self._process = process_name()

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON line without a line break, behind the process's mark."""
        line: dict[str, Value] = {
            "time": rfc3339(record.created),
            "process": self._process,
            "level": record.levelname,
            "logger": record.name,
            "message": message_of(record),
        }
        line |= {name: _text_of(record, name) for name in FIELDS}
        own = getattr(record, "fields", None)
        if isinstance(own, dict):  # a library's may be anything
            line |= {name: value for name, value in own.items() if name not in line}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return self._mark + json_line(line)


class TextFormatter(logging.Formatter):
    """Format a record as text without control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the first line; it ends with the request that it belongs to."""
        request = _text_of(record, "request_id")
        return _escaped(
            super().formatMessage(record) + (f" (request {request})" if request else "")
        )

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
            "accept": {
                "()": "opscenter.core.log_limits.OncePerMinute",
                "beginning": _NO_DESCRIPTOR,
            },
            "callers": {"()": "opscenter.core.caller_lines.CallerLines"},
            "brief": {"()": "django.utils.log.CallbackFilter", "callback": without_known_traceback},
        },
        "handlers": {
            "console": {
                "()": "opscenter.core.log_handler.NonBlockingHandler",
                "formatter": form,
                "filters": ["callers"],
            }
        },
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "asyncio": {"filters": ["accept"]},
            "asyncssh": {"level": "WARNING"},
            "aiohttp.access": {"level": "WARNING"},
            # Its own handlers would block when nobody reads.
            "uvicorn": {"handlers": ["console"], "level": "WARNING", "propagate": False},
            "uvicorn.access": {"level": "WARNING"},
            "axes": {"level": "WARNING"},
            "django": {"level": "INFO"},  # without handlers of its own, which Django gives it
            "opscenter.access": {"level": "INFO"},  # OPSCENTER_ACCESS_LOG decides
            "django.request": {"filters": ["no_probe"]},
            # A traceback for each request with a made-up Host header only hides others.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            # One line for every task sent, received and done only hides others.
            "celery.beat": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING", "filters": ["brief"]},
        },
    }


def configure(config: dict[str, Any]) -> None:
    """Set up logging, as Django's LOGGING_CONFIG; as JSON, warnings and uncaught errors too."""
    logging.config.dictConfig(config)
    if config["handlers"]["console"]["formatter"] != "json":
        return  # for a person the interpreter's own form is best
    logging.captureWarnings(True)  # noqa: FBT003 - the library's only parameter
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def process_name() -> str:
    """Return what this process is called in the log: by its supervisor, else by its command."""
    given = os.environ.get(PROCESS_VARIABLE, "")
    program, *arguments = sys.argv or [""]
    command = arguments[0] if program.endswith("manage.py") and arguments else Path(program).stem
    return given or command or "python"


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):  # somebody pressed Ctrl-C
        _log.critical("the process ends: %s", kind.__name__, exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread else "unknown"
        trace = (args.exc_type, args.exc_value, args.exc_traceback)
        _log.error("thread %s ended: %s", name, args.exc_type.__name__, exc_info=trace)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    text = args.err_msg or "an error was ignored in"
    error = args.exc_value or args.exc_type()
    trace = (args.exc_type, error, args.exc_traceback)
    _log.error("%s: %.200r", text, args.object, exc_info=trace)


def _text_of(record: logging.LogRecord, name: str) -> str | None:
    value = getattr(record, name, None)
    return None if value is None else str(value)


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in text
    )
