"""One line of the log as one JSON object; standard library only.

A process of ours writes its records as objects and puts a mark before each, which only it and its
supervisor know. Everything else that comes out of a process (the interpreter's last words, a
library's ``print``, Redis, half a line) is wrapped into an object by the supervisor. So what
somebody else made a process write never passes for a record, nor for another process's.

Objects are ASCII: no control character, no line separator of Unicode, no bytes that are not UTF-8
can break the stream or control a terminal.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time

MARK_VARIABLE = "OPSCENTER_LOG_MARK"
"""Environment variable of a supervised process: what it writes before each of its records."""

PROCESS_VARIABLE = "OPSCENTER_PROCESS"
"""Environment variable of a supervised process: its name in the log."""

FORMAT_VARIABLE = "OPSCENTER_LOG_FORMAT"

Value = str | int | float | None

# Bytes of the longest value of a field; together less than a line may have (LONGEST_LINE_BYTES).
_LONGEST = {"message": 16_000, "error": 32_000}
_LONGEST_OTHER = 1_000
_MOST_FIELDS = 16
_MOST_BYTES = 12  # of one character: two halves of a pair, \\uXXXX each
_SEPARATOR = "\x1e"  # record separator: nobody prints it by accident

# The usual forms of lines, to find their level: the agent's, as ours for people; what Celery prints
# from its signal handler, where it must not log; Redis's.
_PYTHON = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) ([\w.]{1,100}): (.*)"
)
_CELERY = re.compile(r"worker: (Warm|Cold) shutdown \(MainProcess\)")
_REDIS = re.compile(r"\d+:[A-Z] \d+ \w{3} \d{4} [\d:.]+ ([.*#-]) (.*)")
_REDIS_LEVELS = {".": "DEBUG", "-": "DEBUG", "*": "INFO", "#": "WARNING"}
_FAILURE = re.compile(
    r"Traceback \(most recent call last\)|Fatal |manage\.py|opscenter-agent: "
    r"|[\w.]*(Error|Exception|Configured)\b"
)


def rfc3339(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def mark_of(secret: str) -> str:
    """Return what stands before a record; "" if the process has no secret."""
    return f"{_SEPARATOR}{secret}:" if secret else ""


def json_line(fields: Mapping[str, Value]) -> str:
    """Return fields as one JSON object in one line of ASCII; those that are None are left out.

    A text that is too long is cut, and says so: an error in the middle, as its last lines say most,
    others at the end.
    """
    kept = [(name, value) for name, value in fields.items() if value is not None][:_MOST_FIELDS]
    return json.dumps({name: _bounded(name, value) for name, value in kept})


def _bounded(name: str, value: Value) -> Value:
    if not isinstance(value, str):
        return value
    longest = _LONGEST.get(name, _LONGEST_OTHER)
    # Halves of surrogate pairs are no text: a strict reader would refuse the whole object.
    text = value if value.isascii() else value.encode("utf-8", "replace").decode()
    if len(text) * _MOST_BYTES <= longest or (
        len(text) <= longest and len(json.dumps(text)) <= longest + 2
    ):
        return text
    if name == "error":
        head, tail = _head(text, longest // 4), _head(text[::-1], 3 * longest // 4)[::-1]
        return f"{head}\n... ({len(value) - len(head) - len(tail)} characters left out)\n{tail}"
    head = _head(text, longest)
    return f"{head} ... ({len(value) - len(head)} characters left out)"


def _head(text: str, longest: int) -> str:
    """Return the beginning of a text that takes at most so many bytes as JSON."""
    text = text[:longest]
    count = bisect_right(range(len(text) + 1), longest + 2, key=lambda n: len(json.dumps(text[:n])))
    return text[: count - 1]


def wrapped(process: str, line: str, *, level: str | None = None) -> str:
    """Return a line that is no record of ours as an object.

    Args:
        process: who wrote it.
        line: the line.
        level: its level, if it is a line of the supervisor's own; None to find it in the line. A
            line that no logger wrote is a warning at least: nobody expected it.
    """
    logger, message = "opscenter.up", line
    if level is None:
        level, logger, message = _parsed(line)
    return json_line(
        {
            "time": rfc3339(time()),
            "process": process,
            "level": level,
            "logger": logger,
            "message": message,
        }
    )


def _parsed(line: str) -> tuple[str, str, str]:
    """Return level, logger and message of a line in one of the usual forms."""
    if found := _PYTHON.fullmatch(line):
        return found[1], found[2], found[3]
    if _CELERY.fullmatch(line):
        return "INFO", "celery", line
    if found := _REDIS.fullmatch(line):
        return _REDIS_LEVELS[found[1]], "redis", found[2]
    return "ERROR" if _FAILURE.match(line) else "WARNING", "output", line


@dataclass(frozen=True)
class OutputReader:
    """Turns the lines of one process into objects.

    Attributes:
        process: its name, which goes into every object.
        mark: what stands before its records; "" if it writes none.
        relays: whether its records may name other processes, as the supervisor's do.
    """

    process: str
    mark: str = ""
    relays: bool = False

    def objects(self, line: str) -> list[str]:
        """Return a line as JSON lines: usually one, none if it is blank.

        A record may stand behind other text if something wrote without ending its line.
        """
        rest, *records = line.split(self.mark) if self.mark else [line]
        found = [wrapped(self.process, rest)] if rest.strip() else []
        for text in records:
            record = self._record(text)
            if record is not None:
                found.append(record)
            elif text.strip():
                found.append(wrapped(self.process, text))
        return found

    def _record(self, text: str) -> str | None:
        """Return a record of ours as a line; None if it is not whole."""
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(record, dict) or not isinstance(record.get("message"), str):
            return None
        if self.relays:
            return text
        return json.dumps(record | {"process": self.process})
