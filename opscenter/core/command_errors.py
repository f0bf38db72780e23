"""What a command says, in one line, where a person has to change something before it can work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from redis.exceptions import AuthenticationError, AuthorizationError

from opscenter.core.database import database_trouble
from opscenter.core.disk import is_full

CHANGE_NEEDED = 2
"""Exit code: somebody has to change something; starting again does not help."""
AWAY = os.EX_TEMPFAIL
"""Exit code (75): a database or a Redis does not answer now; starting again later may help."""

_AWAY_STATES = ("08", "53", "57", "55P03", "40P01")
# A refused connection has no code of its own in libpq. What is none of these is taken as "away":
# trying a wrong password again costs little, and not coming back after a power cut costs a lot.
_REFUSED_FOR_GOOD = (
    "authentication failed",
    "password",
    "does not exist",
    "pg_hba",
    "does not support ssl",
    "certificate",
    "permission denied",
)
_BUSY_SQLITE = "locked"


def is_for_a_person(exc: Exception) -> bool:
    """Return whether an error is about what the command was given, not a fault of ours.

    A setting, a database or a Redis that is away, refuses the password or takes nothing.
    """
    if isinstance(exc, ImproperlyConfigured | redis.ConnectionError | redis.TimeoutError):
        return True
    return bool(database_trouble(exc))


def one_line_reason(exc: Exception) -> str:
    """Return an error as one line that names the variable, without any password."""
    text = " ".join(str(exc).split())
    # SQLite says "disk I/O error" where there is no room for its index of the log.
    of_database = isinstance(exc, DatabaseError | InterfaceError)
    if (of_database or isinstance(exc, OSError)) and is_full(Path(settings.DATA_DIR)):
        path = settings.DATA_DIR
        return f"OPSCENTER_DATA_DIR: the disk of {path} is full: free some space ({text})"
    if isinstance(exc, redis.RedisError):
        parts = urlsplit(settings.REDIS_URL)
        return f"REDIS_URL: the Redis at {parts.hostname or parts.path} does not answer: {text}"
    if not of_database:
        return text
    if connection.vendor == "sqlite":
        return f"OPSCENTER_DATA_DIR: {settings.DATABASES['default']['NAME']}: {text}"
    return f"DATABASE_URL: {text}"


def exit_code(exc: Exception) -> int:
    """Return :data:`AWAY` if the error or a cause of it is a server that does not answer now.

    Returns:
        :data:`CHANGE_NEEDED` for all else: a wrong setting, a refused password, a full disk.
    """
    causes = list(_causes(exc))
    if any(phrase in str(cause).lower() for cause in causes for phrase in _REFUSED_FOR_GOOD):
        return CHANGE_NEEDED
    return AWAY if any(_is_away(cause) for cause in causes) else CHANGE_NEEDED


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, outermost first."""
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _is_away(exc: BaseException) -> bool:
    if isinstance(exc, AuthenticationError | AuthorizationError):
        return False
    if isinstance(exc, redis.ConnectionError | redis.TimeoutError):
        return True
    if isinstance(exc, InterfaceError):
        return True
    if not isinstance(exc, OperationalError):
        return False
    if connection.vendor == "sqlite":
        return _BUSY_SQLITE in str(exc)
    state = getattr(exc.__cause__, "sqlstate", None)
    return state is None or state.startswith(_AWAY_STATES)
