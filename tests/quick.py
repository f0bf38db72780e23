"""Quick tests: pure ones and those of the database, without a server, another process, a browser.

Whoever starts a process or listens on a socket asks for the fixture ``starts_servers``: most often
another fixture, sometimes a test by ``usefixtures``. Every other test is marked ``quick`` when it
is collected, and fails if it does what it did not ask for. Those that schemathesis makes from the
API's schema are left to the whole suite: they are some hundred requests each.
"""

from __future__ import annotations

import gc
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SERVERS = {"starts_servers", "live_server"}  # the second one is pytest-django's
_SLOW = ("e2e", "browser")
_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}


class _Watch:
    """What the running test did that a quick test must not do."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take note of an audit event of this process."""
        if self.on and (event in _STARTS or event in ("socket.bind", "socket.connect")):
            told = arguments[1 if event.startswith("socket") else 0 :][:1]
            mine = event in _STARTS and not _looks_for_a_library()
            if mine or (event not in _STARTS and _serves(event, *arguments)):
                self.seen.append(f"{event} {told}")


_watch = _Watch()
sys.addaudithook(_watch.hear)


def _looks_for_a_library() -> bool:
    """Return whether an import asks the linker by :mod:`ctypes.util` for a shared library.

    That happens once in a process, in whichever test comes first.
    """
    frame = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "ctypes.util":
        frame = frame.f_back
    return frame is not None


def _serves(event: str, sock: socket.socket, address: Any) -> bool:
    """Return whether a socket begins to listen or calls a server that is there."""
    if event == "socket.bind":
        return True
    # Threads of earlier tests may still look for their servers.
    if threading.current_thread() is not threading.main_thread() or sock.type != socket.SOCK_STREAM:
        return False
    return sock.family != socket.AF_UNIX or Path(str(address)).exists()


@pytest.fixture(scope="session")
def starts_servers() -> None:
    """Say that the test, or the fixture that asks for this, starts a process or a server."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is quick, before pytest selects by ``-m``."""
    for item in items:
        asked = _SERVERS & set(getattr(item, "fixturenames", ()))
        slow = any(item.get_closest_marker(name) for name in _SLOW)
        if not asked and not slow and not type(item).__module__.startswith("schemathesis."):
            item.add_marker("quick")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the garbage collector of a quick run leave alone what stays: modules and tests.

    Else it goes through all of it again and again: a tenth of such a run.
    """
    if session.config.option.markexpr == "quick":
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Listen while a quick test runs, its fixtures included."""
    _watch.on = item.get_closest_marker("quick") is not None
    _watch.seen.clear()
    try:
        return (yield)
    finally:
        _watch.on = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a quick test that was none."""
    yield
    if _watch.seen:
        pytest.fail(
            "a quick test starts no process and no server; let it or its fixture ask for"
            f" `starts_servers`: {'; '.join(_watch.seen)}",
            pytrace=False,
        )
