"""Accept connections without asyncio's own loop, which floods the log when descriptors run out.

At EMFILE asyncio tries to accept as often as the backlog is long, writes a traceback each time and
begins anew every second. Here one failed accept ends the turn, accepting pauses for a moment, and
the log has a line a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import resource
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from clusters.tunnel.hub.door import Door, Entry

logger = logging.getLogger(__name__)

RESERVE = 64
"""Descriptors that strangers never get: for pulls, the database, Redis and files."""
_TURN = 32  # connections accepted before others get the loop
_PAUSE_SECONDS = 0.25
_LINE_SECONDS = 60.0
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Serve = Callable[[socket.socket, str], Coroutine[Any, Any, None]]


class Acceptor:
    """Accepts on one listening socket, and serves each connection in a task of its own.

    Args:
        sock: a listening socket that does not block; :meth:`close` closes it.
        serve: serves one connection: its socket and the peer's address ("" of a unix socket). It
            owns the socket.
        when_short: called when there is no descriptor left, to make room; False if it could not.
    """

    def __init__(self, sock: socket.socket, serve: Serve, when_short: Callable[[], bool]) -> None:
        self._sock = sock
        self._serve = serve
        self._when_short = when_short
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._said_s = float("-inf")
        self._closed = False
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Stop accepting; what is accepted goes on. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self._sock)
        self._sock.close()

    async def end_tasks(self) -> None:
        """Cancel what still serves, and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_TURN):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._rest(exc)
                return
            sock.setblocking(False)  # noqa: FBT003 - socket's own signature
            address = peer[0] if isinstance(peer, tuple) else ""
            task = self._loop.create_task(self._serve(sock, str(address)))
            self._tasks.add(task)
            task.add_done_callback(self._served)

    def _rest(self, exc: OSError) -> None:
        """Pause after a failed accept: those who wait stay in the kernel's queue."""
        if exc.errno in _SHORT:
            self._when_short()
        if time.monotonic() - self._said_s >= _LINE_SECONDS:
            self._said_s = time.monotonic()
            logger.error("no connection can be accepted for the moment: %s", exc)
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a connection could not be served: %s", error, exc_info=error)


def enter_door(
    door: Door, sock: socket.socket, address: str, *, through_proxy: bool = False
) -> Entry | None:
    """Count an accepted connection in, or close its socket.

    When few descriptors are left, the door makes room first; if it cannot, nobody comes in.

    Returns:
        None if there is no place; the socket is closed then.
    """
    entry = None
    if not few_descriptors(sock) or door.make_room():
        entry = door.enter(address, through_proxy=through_proxy)
    if entry is None:
        sock.close()
        return None
    entry.abort = functools.partial(_shut_down, sock)
    return entry


def _shut_down(sock: socket.socket) -> None:
    """End a connection whose protocol has not begun, which then reads the end."""
    with contextlib.suppress(OSError):  # it is gone already
        sock.shutdown(socket.SHUT_RDWR)


def few_descriptors(sock: socket.socket) -> bool:
    """Return whether a new socket's number shows that nearly all descriptors are taken.

    The kernel gives the lowest number that is free. Nearly all: 90 %, or all but :data:`RESERVE`.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return False
    return sock.fileno() >= max(min(limit * 9 // 10, limit - RESERVE), limit // 2)
