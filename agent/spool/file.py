"""The spool: minutes kept on the agent's disk until the hub has fetched them, bounded.

One SQLite file in WAL mode, opened exclusively, so that two agents never share one. Every sample
is committed, so a ``kill -9`` loses at most the sample being written; after a restart the open
minute goes on where it was. ``synchronous=NORMAL`` means that a power cut may take the last few
commits too: acceptable here, where a sync per sample would wear small disks.

A minute of one kind is one row, a packed blob (:mod:`agent.spool.minutes`); folding into an
existing minute is the only way to write, so a minute is never there twice, even when the clock goes
back.

All of it blocks and belongs to one thread; :class:`agent.spool.spool.Spool` is what coroutines use.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from agent.catalog import KINDS, Kind
from agent.samples import Sample
from agent.spool.minutes import Minute, MinuteFormatError
from agent.spool.series import KEPT_SECONDS, Series, SeriesTable

logger = logging.getLogger(__name__)

CLOSE_GRACE_SECONDS = 2
"""A minute is served this long after its end, so that its last sample is in."""
MIN_BYTES = 4 * 2**20
MAX_WAITING_MINUTES = 60
"""Minutes kept in memory while the disk takes nothing."""

_SCHEMA_VERSION = 1
_SLICE_MINUTES = 60
_VACUUM_PAGES = 128
_OPEN_LEVEL, _CLOSED_LEVEL = 1, 6  # zlib: the open minute is packed again at every sample
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


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What the spool holds: ``oldest`` and ``newest_end`` of closed minutes, None if empty.

    ``error`` is "" or why the last write failed.
    """

    oldest: int | None
    newest_end: int | None
    size_bytes: int
    error: str


def minute_of(at: float) -> int:
    """Return the start of the minute that contains ``at``."""
    return int(at // 60) * 60


def closed_end(now: float) -> int:
    """Return the end of the newest closed minute."""
    return minute_of(now - CLOSE_GRACE_SECONDS)


class SpoolFile:
    """The file itself. All methods block; use it from one thread at a time.

    Args:
        path: made if absent; a file that is no spool, or a damaged one, is moved aside.
        max_bytes: bound on the file and its log together; at least :data:`MIN_BYTES`.
        max_seconds: minutes older than this go.

    Raises:
        SpoolError: if the file can be neither opened nor made.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_seconds: int) -> None:
        self._path = path
        self._max_bytes = max(max_bytes, MIN_BYTES)
        self._max_seconds = max_seconds
        self._series = SeriesTable()
        self._open_start = -1
        self._open_minute: dict[Kind, Minute] = {}
        self._waiting: dict[int, bytes] = {}  # row -> packed: closed, not on disk yet
        self._trimmed_at = -1
        self.error = ""
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                raise SpoolError(_explain(path, exc)) from exc
            self._db = self._replace(exc)
        self._with_repair(self._load_series)

    def close(self) -> None:
        """Write what is pending, if the disk takes it, and close the file."""
        self._flush()
        self._db.close()

    def add(self, at: float, samples: Iterable[Sample]) -> None:
        """Fold samples taken at ``at`` into their minute and commit.

        A disk that takes nothing is no exception: the minutes wait in memory, ``error`` says
        why, and the next call tries again.
        """
        start = minute_of(at)
        if start != self._open_start:
            self._change_minute(start)
        kinds = self._open_minute
        counted: set[int] = set()
        for sample in samples:
            minute = kinds.get(sample.kind)
            if minute is None:
                minute = kinds[sample.kind] = Minute(sample.kind)
            sid = self._series.sid(sample, start)
            # Two names that are the same once cleaned are one series: the first one's.
            if sid not in counted:
                counted.add(sid)
                minute.fold(sid, sample.values)
        self._flush()
        if start != self._trimmed_at and not self.error:
            self._trimmed_at = start
            try:
                self._with_repair(self.trim, at)
            except sqlite3.OperationalError as exc:
                logger.error("the spool %s cannot be trimmed: %s", self._path, exc)
                self.error = str(exc)

    def minutes(
        self, start: int, end: int, kinds: Sequence[Kind] = KINDS
    ) -> Iterator[tuple[int, Kind, bytes]]:
        """Yield (start of minute, kind, packed minute), ascending, with ``start <= t < end``."""
        at = start
        while (first := self._with_repair(self._first_minute, at, end)) is not None:
            stop = min(first + _SLICE_MINUTES * 60, end)
            for row, data in sorted(self._with_repair(self._held, first, stop).items()):
                if KINDS[row % 8] in kinds:
                    yield row // 8 * 60, KINDS[row % 8], data
            at = stop

    def series(self, sid: int) -> Series | None:
        """Return one series; None if the spool does not know it (any more)."""
        return self._series.get(sid)

    def state(self, now: float) -> SpoolState:
        """Return what the spool holds as of ``now``."""
        oldest, newest = self._with_repair(self._ends)
        starts = [row // 8 * 60 for row in (oldest, newest) if row is not None]
        starts.extend(row // 8 * 60 for row in self._waiting)
        if self._open_minute:
            starts.append(self._open_start)
        end = closed_end(now)
        if not starts or min(starts) >= end:
            return SpoolState(None, None, self.size_bytes(), self.error)
        return SpoolState(min(starts), min(max(starts) + 60, end), self.size_bytes(), self.error)

    def size_bytes(self) -> int:
        """Return what the spool takes on disk, its log included."""
        total = 0
        for suffix in ("", "-wal", "-shm", "-journal"):
            # A side file may come or go between two calls.
            with contextlib.suppress(FileNotFoundError):
                total += Path(f"{self._path}{suffix}").stat().st_size
        return total

    def trim(self, now: float) -> None:
        """Drop minutes that are too old or too many, in slices, and give pages back.

        By age one slice a call goes, so that a clock that jumps forward for a moment costs an
        hour of history and not all of it. By size as many go as it takes.
        """
        self._drop_slice(before=_row_id(minute_of(now - self._max_seconds), KINDS[0]))
        limit = self._page_limit()
        while self._used_pages() > limit:
            if not self._drop_slice():
                break
        while self._pragma("freelist_count") > max(_VACUUM_PAGES, limit // 50):
            # A part at a time, so that the log stays small too.
            self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._forget_series()

    # Opening and repair

    def _open(self) -> sqlite3.Connection:
        try:
            # Made by us, so that the log beside it, which takes over its mode, is private too.
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
        # The last guard of the bound, should trimming ever fall behind.
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
            # What is still in memory is written again, with the names that it needs.
            self._series.all_changed()
            return self._open()
        except (OSError, sqlite3.DatabaseError) as exc:
            raise SpoolError(_explain(self._path, exc)) from exc

    def _with_repair(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a database action; if the file turns out damaged, replace it and run it again."""
        try:
            return action(*args, **kwargs)
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                raise
            self._db.close()
            self._db = self._replace(exc)
            return action(*args, **kwargs)

    # Series

    def _load_series(self) -> None:
        rows = self._db.execute("SELECT sid, kind, ns, name, node, attrs, seen FROM series")
        self._series.load(rows.fetchall())

    def _forget_series(self) -> None:
        oldest = self._db.execute("SELECT min(id) FROM minute").fetchone()[0]
        if oldest is None:
            return
        before = oldest // 8 * 60 - 2 * KEPT_SECONDS
        gone = self._db.execute("DELETE FROM series WHERE seen < ? RETURNING sid", (before,))
        self._series.forget(sid for (sid,) in gone.fetchall())

    # Minutes

    def _change_minute(self, start: int) -> None:
        """Close the open minute and open another: a new one, or one that there was before."""
        for kind, minute in self._open_minute.items():
            self._waiting[_row_id(self._open_start, kind)] = minute.pack(level=_CLOSED_LEVEL)
        self._open_start, self._open_minute = -1, {}
        self._open_minute = self._with_repair(self._load_minute, start)
        self._open_start = start

    def _load_minute(self, start: int) -> dict[Kind, Minute]:
        kinds: dict[Kind, Minute] = {}
        for row, data in self._held(start, start + 60).items():
            kind = KINDS[row % 8]
            try:
                kinds[kind] = Minute.unpack(kind, data)
            except MinuteFormatError as exc:
                logger.error(
                    "spool: minute %d of %s is unreadable (%s): begun anew", start, kind, exc
                )
        return kinds

    def _ends(self) -> tuple[int | None, int | None]:
        oldest, newest = self._db.execute("SELECT min(id), max(id) FROM minute").fetchone()
        return oldest, newest

    def _first_minute(self, start: int, end: int) -> int | None:
        """Return the first minute in the range that there is, so that holes cost nothing."""
        (row,) = self._db.execute(
            "SELECT min(id) FROM minute WHERE id >= ?", (_row_id(start, KINDS[0]),)
        ).fetchone()
        known = [self._open_start, *(row // 8 * 60 for row in self._waiting)]
        found = [minute for minute in known if start <= minute < end]
        if row is not None and row // 8 * 60 < end:
            found.append(row // 8 * 60)
        return min(found, default=None)

    def _held(self, start: int, end: int) -> dict[int, bytes]:
        """Return packed minutes by row, those in memory over those on disk."""
        held = self._read(start, end)
        low, high = _row_id(start, KINDS[0]), _row_id(end, KINDS[0])
        held |= {row: data for row, data in self._waiting.items() if low <= row < high}
        if start <= self._open_start < end:
            held |= self._packed_open()
        return held

    def _packed_open(self) -> dict[int, bytes]:
        return {
            _row_id(self._open_start, kind): minute.pack(level=_OPEN_LEVEL)
            for kind, minute in self._open_minute.items()
        }

    def _read(self, start: int, end: int) -> dict[int, bytes]:
        rows = self._db.execute(
            "SELECT id, data FROM minute WHERE id >= ? AND id < ?",
            (_row_id(start, KINDS[0]), _row_id(end, KINDS[0])),
        )
        return dict(rows.fetchall())

    def _flush(self) -> None:
        """Write what is not on disk yet; failing that, keep it in memory and say why."""
        try:
            try:
                self._with_repair(self._write)
            except sqlite3.OperationalError as exc:
                # Full: our own bound if pages can be freed, else the disk.
                if exc.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._drop_slice():
                    raise
                self._write()
        except sqlite3.OperationalError as exc:
            if not self.error:
                logger.error("the spool %s takes no data: %s", self._path, exc)
            self.error = str(exc)
            self._bound_waiting()
            return
        if self.error:
            logger.warning("the spool %s takes data again", self._path)
            self.error = ""
        self._series.written()
        self._waiting.clear()

    def _write(self) -> None:
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO series (sid, kind, ns, name, node, attrs, seen)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                self._series.changed(),
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO minute (id, data) VALUES (?, ?)",
                [*self._waiting.items(), *self._packed_open().items()],
            )

    def _bound_waiting(self) -> None:
        minutes = sorted({row // 8 for row in self._waiting})
        for lost in minutes[:-MAX_WAITING_MINUTES]:
            logger.error("the spool drops minute %d: the disk takes nothing", lost * 60)
            for kind in KINDS:
                self._waiting.pop(_row_id(lost * 60, kind), None)

    def _drop_slice(self, *, before: int | None = None) -> int:
        """Delete the oldest slice, or what of it is older than row ``before``; return rows gone."""
        oldest = self._db.execute("SELECT min(id) FROM minute").fetchone()[0]
        if oldest is None or (before is not None and oldest >= before):
            return 0
        stop = oldest + _SLICE_MINUTES * 8
        stop = stop if before is None else min(stop, before)
        with self._transaction():
            return self._db.execute("DELETE FROM minute WHERE id < ?", (stop,)).rowcount

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _page_limit(self) -> int:
        """Pages that data may fill: the bound less the log and some air for a slice's work."""
        reserve = max(2 * 2**20, min(8 * 2**20, self._max_bytes // 4))
        return (self._max_bytes - reserve) // self._pragma("page_size")

    def _used_pages(self) -> int:
        return self._pragma("page_count") - self._pragma("freelist_count")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])


def _row_id(start: int, kind: Kind) -> int:
    return start // 60 * 8 + KINDS.index(kind)


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
