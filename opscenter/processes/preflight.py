"""Checks before anything starts: one clear error instead of a child that dies again and again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class Listener:
    """An address that a child is going to listen on, and the variables that name it."""

    variable: str
    host: str
    port: int
    host_variable: str


def reachable_host(host: str) -> str:
    """Return the address at which this machine reaches a listener on ``host``."""
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - no bind
    return wildcards.get(host, host)


def check_listeners(listeners: Iterable[Listener]) -> None:
    """Try every address, and release it at once.

    Raises:
        ImproperlyConfigured: naming the variable and the port that cannot be used.
    """
    taken: dict[tuple[str, int], str] = {}
    for item in listeners:
        other = taken.setdefault((item.host, item.port), item.variable)
        if other != item.variable:
            msg = f"{item.variable} and {other} name the same port {item.port}"
            raise ImproperlyConfigured(msg)
        _check_listener(item)


def _check_listener(item: Listener) -> None:
    try:
        found = socket.getaddrinfo(
            item.host, item.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as exc:
        msg = f"{item.host_variable}={item.host!r} is not an address of this machine: {exc}"
        raise ImproperlyConfigured(msg) from exc
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As the servers do: connections in TIME_WAIT must not count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as exc:
            raise ImproperlyConfigured(_bind_message(item, exc)) from exc


def _bind_message(item: Listener, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return (
            f"{item.variable}: port {item.port} on {item.host} is in use;"
            f" stop what uses it or set {item.variable} to another port"
        )
    if exc.errno == errno.EACCES:
        return f"{item.variable}: port {item.port} needs privileges that this user lacks"
    return f"{item.host_variable}={item.host!r}: cannot listen on port {item.port}: {exc.strerror}"


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; the system releases it when the process dies.

    Raises:
        ImproperlyConfigured: if another process holds it, naming that process.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            owner = file.read(20).strip() or "unknown"
            msg = (
                f"OPSCENTER_DATA_DIR: {path.parent} is in use by another `manage.py up`"
                f" (process {owner}); stop it or set OPSCENTER_DATA_DIR to another directory"
            )
            raise ImproperlyConfigured(msg) from exc
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
