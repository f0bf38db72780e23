"""The handler of every log line: it never waits for a reader, and tells the same error rarely.

A process whose supervisor is stopped, or writes to a terminal that is, must go on working: what
the pipe does not take is dropped, and counted when it takes something again.
"""

from __future__ import annotations

import copy
import logging
import os
import re
import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from opscenter.core.log_context import stamp

REPEAT_SECONDS = 60.0
_FIRST_PATIENCE_MS = 50  # a reader that is only slow; once lines are dropped there is no waiting
_AT_ONCE = select.PIPE_BUF  # what a pipe takes without blocking when it says that it takes any
_MOST_KEPT = 500
_TASK_ID = re.compile(r"\[[0-9a-f-]{36}\]")


class NonBlockingHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes records to standard error, or drops them; it never blocks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeats = Repeats(clock)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it was written within the last minute or nobody reads."""
        try:
            stamp(record)
            due = self._repeats.take(record)
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)
            return
        for each in due:
            self._emit(each)

    def _emit(self, record: logging.LogRecord) -> None:
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError, AttributeError):  # not a file, as in a test
            super().emit(record)
            return
        try:
            text = self.format(record) + self.terminator
            if self._dropped:
                text = self.format(_told(self._dropped)) + self.terminator + text
            if _written(descriptor, text.encode(errors="replace"), patient=not self._dropped):
                self._dropped = 0
            else:
                self._dropped += 1
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)


def _written(descriptor: int, data: bytes, *, patient: bool) -> bool:
    """Write data in pieces that do not block; return False if something of it was dropped."""
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    for at in range(0, len(data), _AT_ONCE):
        if not room.poll(_FIRST_PATIENCE_MS if patient else 0):
            return False
        os.write(descriptor, data[at : at + _AT_ONCE])
    return True


def message_of(record: logging.LogRecord) -> str:
    """Return a record's message; where its arguments do not fit, the message without them.

    A handler would print that mistake as lines of its own.
    """
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - whatever an argument's __str__ raises
        return f"{record.msg!s:.2000} (its arguments do not fit)"


def _told(dropped: int) -> logging.LogRecord:
    text = f"{dropped} log lines were dropped: nobody read them"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)


@dataclass
class _Repeated:
    record: logging.LogRecord
    since: float
    count: int = 0


class Repeats:
    """Lets an error pass once a minute, and says how often it was repeated meanwhile.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[object, ...], _Repeated] = {}

    def take(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what is to be written now: ended repetitions, and the record if it is new."""
        found = self._ended()
        if record.levelno < logging.ERROR:
            return [*found, record]
        key = _key(record)
        known = self._seen.get(key)
        if known is not None:
            known.count += 1
            return found
        if len(self._seen) >= _MOST_KEPT:
            self._seen.clear()
        self._seen[key] = _Repeated(record, self._clock())
        return [*found, record]

    def _ended(self) -> list[logging.LogRecord]:
        """Forget errors of more than a minute ago; return those that were repeated, with count."""
        now = self._clock()
        over = [key for key, one in self._seen.items() if now - one.since >= REPEAT_SECONDS]
        ended = [self._seen.pop(key) for key in over]
        return [_counted(one) for one in ended if one.count]


def _key(record: logging.LogRecord) -> tuple[object, ...]:
    error = record.exc_info[1] if record.exc_info else None
    text = message_of(record)
    if record.name == "celery.app.trace":
        text = _TASK_ID.sub("", text)  # the same task fails as another run of it
    return record.name, record.levelno, text, type(error), str(error)


def _counted(one: _Repeated) -> logging.LogRecord:
    record = copy.copy(one.record)
    times = "once more" if one.count == 1 else f"{one.count} times more"
    record.msg = f"{message_of(record)} ({times} within a minute)"
    record.args = record.exc_info = record.exc_text = record.stack_info = None
    record.created = time.time()
    return record
