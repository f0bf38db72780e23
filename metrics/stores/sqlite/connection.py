"""Connections to the SQLite metric store: one for writes, one per reading thread, none inherited.

Every error of SQLite becomes a :class:`~metrics.stores.errors.StoreError` that names the file and
what to do.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from metrics.stores.errors import StoreError
from metrics.stores.sqlite import schema

BUSY_SECONDS = 30

# Between processes the file's own lock decides; synchronous=FULL because a minute that the cluster
# no longer has cannot be pulled again. There are many reading threads, so their caches are small:
# the operating system caches the file anyway.
_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)

_WRITER_CACHE_KIB = 8192
_READER_CACHE_KIB = 1024

_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space, pulls continue on their own",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop Ops Center, move it away and restore a backup;"
    " without one a new file is created and the clusters are pulled again",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite file: move it away, a new one is created",
    sqlite3.SQLITE_READONLY: "it is not writable: check its owner, its mode and the mount",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check the directory, its owner and its mode",
    sqlite3.SQLITE_PERM: "it cannot be opened: check its owner and its mode",
    sqlite3.SQLITE_BUSY: f"another process has locked it for {BUSY_SECONDS} s",
    sqlite3.SQLITE_IOERR: "reading or writing failed: check the disk",
}

# Connections of a parent process. Closing one would disturb the parent's file, so they stay open,
# unused, as long as this process lives.
_INHERITED: list[sqlite3.Connection] = []


class _Connection(sqlite3.Connection):
    """A connection that supports weak references and closes when its thread is gone."""

    def __del__(self) -> None:
        self.close()


class Connections:
    """The connections of one process to one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._open: WeakSet[_Connection] = WeakSet()
        # Threads of one process queue here, in order, instead of polling the file's lock.
        self.write_lock = threading.RLock()
        self._writer: _Connection | None = None
        self._pid = os.getpid()
        self.commits = 0  # transactions of this process that were stored
        self._file: tuple[int, int] | None = None  # device and inode of what is open

    def get(self) -> sqlite3.Connection:
        """Return this thread's connection for reads; create the file on the first call.

        Raises:
            StoreError: the file cannot be opened or is not ours.
        """
        if self._pid != os.getpid():
            self._after_fork()
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with self.translated():
                connection = self._connect(_READER_CACHE_KIB)
            self._local.connection = connection
        return connection

    @contextmanager
    def transaction(self, *, busy_seconds: float = BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
        """Hold the write lock for a block: everything in it is stored, or nothing.

        Args:
            busy_seconds: how long to wait while another process writes.

        Raises:
            StoreError: nothing was stored.
        """
        if self._pid != os.getpid():
            self._after_fork()
        with self.write_lock, self.translated():
            connection = self._writing_connection()
            _begin(connection, busy_seconds)
            try:
                yield connection
                connection.execute("COMMIT")
                self.commits += 1
            except BaseException:
                # A full disk or a lost file may have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def give_back(self, pages: int) -> None:
        """Return at most ``pages`` free pages at the file's end to the disk, in one transaction.

        ``execute`` would step the pragma only once, which is one page; a script runs to its end.

        Raises:
            StoreError: the file refuses.
        """
        if self._pid != os.getpid():
            self._after_fork()
        with self.write_lock, self.translated():
            self._writing_connection().executescript(f"PRAGMA incremental_vacuum({pages})")

    def is_replaced(self) -> bool:
        """Return whether the file at the path is not the one that this process has open."""
        if self._file is None or not self._open:
            return False
        try:
            found = self.path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._file

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn SQLite's errors within the block into StoreError."""
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise StoreError(f"{self.path}: {explain(exc)}") from exc

    def close(self) -> None:
        """Close all connections of this process; later calls open new ones."""
        for connection in list(self._open):
            connection.close()
        self._open = WeakSet()
        self._local = threading.local()
        self._writer = None

    def _writing_connection(self) -> _Connection:
        if self._writer is None:
            self._writer = self._connect(_WRITER_CACHE_KIB)
        return self._writer

    def _after_fork(self) -> None:
        _INHERITED.extend(self._open)
        self._open = WeakSet()
        self._local = threading.local()
        self._writer = None
        self.write_lock = threading.RLock()
        self._pid = os.getpid()

    def _connect(self, cache_kib: int) -> _Connection:
        self.path.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # close() may come from another thread
            cached_statements=256,
            factory=_Connection,
        )
        try:
            _make_wal(connection)
            for pragma in (*_PRAGMAS, f"PRAGMA cache_size = -{cache_kib}"):
                connection.execute(pragma)
            if not schema.is_current(connection):
                connection.execute("BEGIN IMMEDIATE")
                schema.migrate(connection)
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        if not self._open:
            found = self.path.stat()
            self._file = (found.st_dev, found.st_ino)
        self._open.add(connection)
        return connection


def _begin(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Begin to write, waiting for another process for no longer than ``busy_seconds``."""
    if busy_seconds == BUSY_SECONDS:
        connection.execute("BEGIN IMMEDIATE")
        return
    connection.execute(f"PRAGMA busy_timeout = {round(busy_seconds * 1000)}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")


def _make_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file to write-ahead logging and incremental vacuum.

    SQLite does not wait for the lock of this switch, so processes that start at the same time retry
    until one of them has done it.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as exc:
            busy = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def explain(error: sqlite3.Error | OSError) -> str:
    """Return in one line what an error of SQLite or the file system means and what to do."""
    if isinstance(error, OSError):
        return f"it cannot be opened: {error.strerror}: check the directory, its owner and mode"
    code = getattr(error, "sqlite_errorcode", None)
    advice = _ADVICE.get(code & 0xFF) if code is not None else None
    return f"{advice} ({error})" if advice else str(error)
