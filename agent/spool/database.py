"""The spool's file on disk: opened exclusively, replaced if damaged, kept below its size limit.

One SQLite file in WAL mode, opened exclusively, so that two agents never share one. A table holds
packed minutes by row number (:func:`row_id`), another the series that they name; beside them are
the tables of :mod:`agent.spool.record_tables`.
``synchronous=NORMAL`` means that a power cut may lose the last few commits too: acceptable here,
where a sync per sample would wear small disks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from agent.catalog import KINDS, Kind
from agent.clock import Stretch
from agent.spool.record_tables import RecordTables
from agent.spool.records import ClockStep, RecordRow
from agent.spool.series import Row

logger = logging.getLogger(__name__)

MIN_BYTES = 4 * 2**20
SLICE_MINUTES = 60

_SCHEMA_VERSION = 1
_VACUUM_PAGES = 128
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SCHEMA = """
CREATE TABLE minute (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE series (
    sid INTEGER PRIMARY KEY, kind INTEGER NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
    node TEXT NOT NULL, attrs BLOB NOT NULL, seen INTEGER NOT NULL, UNIQUE (kind, ns, name)
);
CREATE INDEX series_seen ON series (seen);
"""

T = TypeVar("T")
P = ParamSpec("P")


class SpoolError(Exception):
    """The spool cannot be used at all; the message names the file and the reason."""


def row_id(start: int, kind: Kind) -> int:
    """Return the row of a minute of one kind: ascending by time, then by kind."""
    return start // 60 * 8 + KINDS.index(kind)


class SpoolDatabase:
    """The file. Queries raise sqlite3's errors; :meth:`with_repair` survives a damaged file.

    Args:
        path: path of the file, created if absent; one that is no spool, or damaged, is moved aside.
        max_bytes: limit of the file and its log together in bytes, at least :data:`MIN_BYTES`.
        replaced: called whenever a new file is about to replace a damaged one.

    Raises:
        SpoolError: if the file can be neither opened nor made.
    """

    def __init__(self, path: Path, *, max_bytes: int, replaced: Callable[[], None]) -> None:
        self._path = path
        self._max_bytes = max(max_bytes, MIN_BYTES)
        self._replaced = replaced
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                raise SpoolError(_explain(path, exc)) from exc
            self._db = self._replace(exc)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def with_repair(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a database action; if the file is damaged, replace it and run the action again."""
        try:
            return action(*args, **kwargs)
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                raise
            self._db.close()
            self._db = self._replace(exc)
            return action(*args, **kwargs)

    def size_bytes(self) -> int:
        """Return what the spool takes on disk, its log included."""
        total = 0
        for suffix in ("", "-wal", "-shm", "-journal"):
            # A side file may come or go between two calls.
            with contextlib.suppress(FileNotFoundError):
                total += Path(f"{self._path}{suffix}").stat().st_size
        return total

    # Rows

    def series(self) -> list[Row]:
        """Return every series."""
        rows = self._db.execute("SELECT sid, kind, ns, name, node, attrs, seen FROM series")
        return rows.fetchall()

    def forget_series(self, before: int) -> list[int]:
        """Delete series last seen before a Unix time; return their numbers."""
        gone = self._db.execute("DELETE FROM series WHERE seen < ? RETURNING sid", (before,))
        return [sid for (sid,) in gone.fetchall()]

    def ends(self) -> tuple[int | None, int | None]:
        """Return the first and the last row; None, None if there is none.

        A minute without values counts as if it had a row of the first kind.
        """
        ends = self._db.execute("SELECT min(id), max(id) FROM minute").fetchone()
        rows = [row for row in ends if row is not None]
        rows += [row_id(start, KINDS[0]) for start in self.records.ends()]
        return min(rows, default=None), max(rows, default=None)

    def oldest(self) -> int | None:
        """Return the first row as :meth:`ends` does; None if there is none."""
        return self.ends()[0]

    def first_from(self, row: int) -> int | None:
        """Return the first row that is not below ``row``; None if there is none."""
        found: int | None
        (found,) = self._db.execute("SELECT min(id) FROM minute WHERE id >= ?", (row,)).fetchone()
        return found

    def read(self, low: int, high: int) -> dict[int, bytes]:
        """Return packed minutes by row, with ``low <= row < high``."""
        rows = self._db.execute("SELECT id, data FROM minute WHERE id >= ? AND id < ?", (low, high))
        return dict(rows.fetchall())

    def write(
        self,
        series: Iterable[Row],
        minutes: Iterable[tuple[int, bytes]],
        records: Iterable[RecordRow] = (),
        steps: Iterable[ClockStep] = (),
        stretch: Stretch | None = None,
    ) -> None:
        """Put series, packed minutes by row, records, steps and a stretch, in one transaction."""
        with self._transaction():
            self.records.write(records, steps, stretch)
            self._db.executemany(
                "INSERT OR REPLACE INTO series (sid, kind, ns, name, node, attrs, seen)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                series,
            )
            self._db.executemany("INSERT OR REPLACE INTO minute (id, data) VALUES (?, ?)", minutes)

    # The bound

    def drop_slice(self, *, before: int | None = None) -> int:
        """Delete the oldest slice, or its part before row ``before``; return how many rows."""
        oldest = self.oldest()
        if oldest is None or (before is not None and oldest >= before):
            return 0
        stop = oldest + SLICE_MINUTES * 8
        stop = stop if before is None else min(stop, before)
        with self._transaction():
            dropped = self._db.execute("DELETE FROM minute WHERE id < ?", (stop,)).rowcount
            return dropped + self.records.drop(stop // 8 * 60)

    def shrink(self) -> None:
        """Drop the oldest slices while the file is too large, and release free pages."""
        limit = self._page_limit()
        while self._used_pages() > limit:
            if not self.drop_slice():
                break
        while self._pragma("freelist_count") > max(_VACUUM_PAGES, limit // 50):
            # A part at a time, so that the log stays small too.
            self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self.records.look()
            raise

    def _page_limit(self) -> int:
        """Return how many pages data may fill: the limit less the log and room for a slice."""
        reserve = max(2 * 2**20, min(8 * 2**20, self._max_bytes // 4))
        return (self._max_bytes - reserve) // self._pragma("page_size")

    def _used_pages(self) -> int:
        return self._pragma("page_count") - self._pragma("freelist_count")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    # Opening and repair

    def _open(self) -> sqlite3.Connection:
        try:
            # Created by us, so that the log beside it, which copies its mode, is private too.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as exc:
            raise SpoolError(_explain(self._path, exc)) from exc
        try:
            db = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=2
            )
        except sqlite3.OperationalError as exc:
            raise SpoolError(_explain(self._path, exc)) from exc
        try:
            self._prepare(db)
            self.records = RecordTables(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 256")
        db.execute("PRAGMA journal_size_limit = 1048576")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {_SCHEMA_VERSION};COMMIT;")
        elif version != _SCHEMA_VERSION:
            raise _damage(f"its version is {version}, this agent writes {_SCHEMA_VERSION}")
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _damage(str(found))
        # The last guard of the limit, should trimming ever fall behind.
        pages = self._max_bytes // db.execute("PRAGMA page_size").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    def _replace(self, reason: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Move the damaged file aside, keeping one such file, and start a new one."""
        aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
        logger.error(
            "the spool %s is damaged (%s): moved to %s, starting a new one",
            self._path,
            reason,
            aside.name,
        )
        for old in self._path.parent.glob(f"{self._path.name}.damaged-*"):
            old.unlink(missing_ok=True)
        try:
            for suffix in ("", "-wal"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}-shm").unlink()
            self._replaced()
            return self._open()
        except (OSError, sqlite3.DatabaseError) as exc:
            raise SpoolError(_explain(self._path, exc)) from exc


def _is_damage(exc: sqlite3.DatabaseError) -> bool:
    # Errors raised by the sqlite3 module itself, not by the library, carry no code.
    return (getattr(exc, "sqlite_errorcode", 0) & 0xFF) in _DAMAGED


def _damage(message: str) -> sqlite3.DatabaseError:
    exc = sqlite3.DatabaseError(message)
    exc.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return exc


def _explain(path: Path, exc: Exception) -> str:
    if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        return f"the spool {path} is in use by another agent"
    return f"the spool {path} cannot be used: {exc}"
