"""What a command says, in one line, where a person has to change something before it can work."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, connection

from opscenter.core.database import database_trouble
from opscenter.core.disk import is_full


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
