"""The lines that anybody who can send a request can cause, and how many of them are written.

Django writes one for each answer of 400 and above and for each suspicious request, axes some for
each failed sign-in, uvicorn one for each connection that is no HTTP. What the caller sent is in
their text, so they are limited by words of ours. Bugs (500) are never held back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from opscenter.core.log_context import caller
from opscenter.core.log_handler import message_of
from opscenter.core.log_limits import LogWord, RateLimitedLog

WINDOW_SECONDS = 60.0
LINES = 5
"""Lines of one address for one reason in a window."""
LONGEST = 1_000
"""Characters of such a line: an address of 60 KB is in the line of its 404."""

logger = logging.getLogger(__name__)

Later = Callable[[float, Callable[[], None]], None]


class Caused(LogWord):
    """What a caller can cause as often as it likes."""

    BAD_REQUEST = "a request that was malformed (400)"
    UNKNOWN = "a request without a valid sign-in (401)"
    FORBIDDEN = "a request that was not allowed (403)"
    NOT_FOUND = "a request of what is not there (404)"
    METHOD = "a request with a wrong method (405)"
    TOO_MANY = "a request beyond a limit (429)"
    REFUSED = "a request that was refused (4xx)"
    UNAVAILABLE = "a request that could not be answered for now (503)"
    SUSPICIOUS = "a suspicious request"
    SIGN_IN = "a sign-in that failed"
    LOCK_OUT = "a sign-in that was locked out"
    PROTOCOL = "a connection that was no HTTP"


_BY_STATUS = {
    400: Caused.BAD_REQUEST,
    401: Caused.UNKNOWN,
    403: Caused.FORBIDDEN,
    404: Caused.NOT_FOUND,
    405: Caused.METHOD,
    429: Caused.TOO_MANY,
    503: Caused.UNAVAILABLE,
}


class CallerLines(logging.Filter):
    """Lets five such lines of an address a minute pass, of 20 addresses, for each reason.

    What is held back is counted, and told in one line once its minute is over.

    Args:
        limits: counts the lines.
        later: calls a function after some seconds, in another thread.
    """

    def __init__(self, limits: RateLimitedLog | None = None, later: Later | None = None) -> None:
        super().__init__()
        self._limits = limits or RateLimitedLog(seconds=WINDOW_SECONDS, lines=LINES)
        self._later = later or _later
        self._turn = threading.Lock()
        self._waits = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged."""
        reason = _reason_of(record)
        if reason is None:
            return True
        if self._limits.admit(_address_of(record), reason):
            _shorten(record)
            return True
        self._tell_later()
        return False

    def _tell_later(self) -> None:
        with self._turn:
            if self._waits:
                return
            self._waits = True
        self._later(WINDOW_SECONDS, self._tell)

    def _tell(self) -> None:
        with self._turn:
            self._waits = False
        self._limits.tell(logger)
        if self._limits.holds():
            self._tell_later()


def _shorten(record: logging.LogRecord) -> None:
    """Cut a message that is too long; what the caller sent is in it."""
    text = message_of(record)
    if len(text) > LONGEST:
        record.msg, record.args = f"{text[:LONGEST]}... ({len(text)} characters)", None


def _reason_of(record: logging.LogRecord) -> Caused | None:
    """Return what a caller did to cause a line; None for lines that callers do not cause."""
    name = record.name
    if name == "django.request":
        status = getattr(record, "status_code", 0)
        return _BY_STATUS.get(status, Caused.REFUSED if 400 <= status < 500 else None)
    if name.startswith("django.security"):
        return Caused.SUSPICIOUS
    if name.partition(".")[0] == "axes":
        locked = str(record.msg).startswith("AXES: Locking out")
        return Caused.LOCK_OUT if locked else Caused.SIGN_IN
    if name == "uvicorn.error" and record.levelno == logging.WARNING:
        return Caused.PROTOCOL
    return None


def _address_of(record: logging.LogRecord) -> str:
    request = getattr(record, "request", None)
    return caller.get() or str(getattr(request, "META", {}).get("REMOTE_ADDR", ""))


def _later(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True  # the end of the process does not wait for it
    timer.name = "caller-lines"
    timer.start()
