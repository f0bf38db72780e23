"""The spool: minutes stored on the agent's disk until the hub has fetched them, bounded.

Every sample is committed (:mod:`agent.spool.database`), so a ``kill -9`` loses at most the sample
being written; after a restart the open minute continues.

A minute of one kind is one row, a packed blob (:mod:`agent.spool.minutes`); folding into an
existing minute is the only way to write, so a minute never exists twice, even if the clock goes
back. Everything here blocks and belongs to one thread; :class:`agent.spool.spool.Spool` is what
coroutines use.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.catalog import KINDS, Kind
from agent.samples import Sample
from agent.spool.database import SLICE_MINUTES, SpoolDatabase, row_id
from agent.spool.minutes import Minute, MinuteFormatError
from agent.spool.series import KEPT_SECONDS, Series, SeriesTable

logger = logging.getLogger(__name__)

CLOSE_GRACE_SECONDS = 2
"""Seconds from a minute's end until it is served, so that its last sample is in."""
MAX_WAITING_MINUTES = 60
"""Minutes kept in memory while the disk accepts nothing."""

_OPEN_LEVEL, _CLOSED_LEVEL = 1, 6  # zlib: the open minute is packed again at every sample


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
        path: path of the file, created if absent; one that is no spool, or damaged, is moved aside.
        max_bytes: limit of the file and its log together in bytes, at least
            :data:`agent.spool.database.MIN_BYTES`.
        max_seconds: age in seconds from which minutes are dropped.

    Raises:
        SpoolError: if the file can be neither opened nor made.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_seconds: int) -> None:
        self._path = path
        self._max_seconds = max_seconds
        self._series = SeriesTable()
        self._open_start = -1
        self._open_minute: dict[Kind, Minute] = {}
        self._waiting: dict[int, bytes] = {}  # row -> packed: closed, not on disk yet
        self._trimmed_at = -1
        self.error = ""
        # What is still in memory is written again to a new file, with the names that it needs.
        self._disk = SpoolDatabase(path, max_bytes=max_bytes, replaced=self._series.all_changed)
        self._series.load(self._disk.with_repair(self._disk.series))

    def close(self) -> None:
        """Write what is pending, if the disk accepts it, and close the file."""
        self._flush()
        self._disk.close()

    def add(self, at: float, samples: Iterable[Sample]) -> None:
        """Fold samples taken at ``at`` into their minute and commit.

        A disk that accepts nothing raises no exception: the minutes wait in memory, ``error`` says
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
            # Names that are equal once cleaned are one series: the first one's.
            if sid not in counted:
                counted.add(sid)
                minute.fold(sid, sample.values)
        self._flush()
        if start != self._trimmed_at and not self.error:
            self._trimmed_at = start
            try:
                self._disk.with_repair(self.trim, at)
            except sqlite3.OperationalError as exc:
                logger.error("the spool %s cannot be trimmed: %s", self._path, exc)
                self.error = str(exc)

    def minutes(
        self, start: int, end: int, kinds: Sequence[Kind] = KINDS
    ) -> Iterator[tuple[int, Kind, bytes]]:
        """Yield (start of minute, kind, packed minute), ascending, with ``start <= t < end``."""
        at = start
        while (first := self._disk.with_repair(self._first_minute, at, end)) is not None:
            stop = min(first + SLICE_MINUTES * 60, end)
            for row, data in sorted(self._disk.with_repair(self._packed, first, stop).items()):
                if KINDS[row % 8] in kinds:
                    yield row // 8 * 60, KINDS[row % 8], data
            at = stop

    def series(self, sid: int) -> Series | None:
        """Return one series; None if the spool does not know it (any more)."""
        return self._series.get(sid)

    def state(self, now: float) -> SpoolState:
        """Return what the spool holds as of ``now``."""
        oldest, newest = self._disk.with_repair(self._disk.ends)
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
        return self._disk.size_bytes()

    def trim(self, now: float) -> None:
        """Drop minutes that are too old or too many, in slices, and release pages.

        By age, one slice per call is dropped, so that a clock that jumps forward for a moment costs
        an hour of history and not all of it. By size, as many as necessary are dropped.
        """
        self._disk.drop_slice(before=row_id(minute_of(now - self._max_seconds), KINDS[0]))
        self._disk.shrink()
        self._forget_series()

    def _forget_series(self) -> None:
        oldest = self._disk.oldest()
        if oldest is None:
            return
        before = oldest // 8 * 60 - 2 * KEPT_SECONDS
        self._series.forget(self._disk.forget_series(before))

    def _change_minute(self, start: int) -> None:
        """Close the open minute and open another: a new one, or one that exists already."""
        for kind, minute in self._open_minute.items():
            self._waiting[row_id(self._open_start, kind)] = minute.pack(level=_CLOSED_LEVEL)
        self._open_start, self._open_minute = -1, {}
        self._open_minute = self._disk.with_repair(self._load_minute, start)
        self._open_start = start

    def _load_minute(self, start: int) -> dict[Kind, Minute]:
        kinds: dict[Kind, Minute] = {}
        for row, data in self._packed(start, start + 60).items():
            kind = KINDS[row % 8]
            try:
                kinds[kind] = Minute.unpack(kind, data)
            except MinuteFormatError as exc:
                logger.error(
                    "spool: minute %d of %s is unreadable (%s): begun anew", start, kind, exc
                )
        return kinds

    def _first_minute(self, start: int, end: int) -> int | None:
        """Return the first existing minute in the range, so that gaps cost nothing."""
        row = self._disk.first_from(row_id(start, KINDS[0]))
        known = [self._open_start, *(row // 8 * 60 for row in self._waiting)]
        found = [minute for minute in known if start <= minute < end]
        if row is not None and row // 8 * 60 < end:
            found.append(row // 8 * 60)
        return min(found, default=None)

    def _packed(self, start: int, end: int) -> dict[int, bytes]:
        """Return packed minutes by row, those in memory over those on disk."""
        low, high = row_id(start, KINDS[0]), row_id(end, KINDS[0])
        packed = self._disk.read(low, high)
        packed |= {row: data for row, data in self._waiting.items() if low <= row < high}
        if start <= self._open_start < end:
            packed |= self._packed_open()
        return packed

    def _packed_open(self) -> dict[int, bytes]:
        return {
            row_id(self._open_start, kind): minute.pack(level=_OPEN_LEVEL)
            for kind, minute in self._open_minute.items()
        }

    def _flush(self) -> None:
        """Write what is not on disk yet; if that fails, keep it in memory and set ``error``."""
        try:
            try:
                self._disk.with_repair(self._write)
            except sqlite3.OperationalError as exc:
                # Full: our own limit if pages can be freed, else the disk.
                if exc.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._disk.drop_slice():
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
        self._disk.write(
            self._series.changed(), [*self._waiting.items(), *self._packed_open().items()]
        )

    def _bound_waiting(self) -> None:
        minutes = sorted({row // 8 for row in self._waiting})
        for lost in minutes[:-MAX_WAITING_MINUTES]:
            logger.error("the spool drops minute %d: the disk takes nothing", lost * 60)
            for kind in KINDS:
                self._waiting.pop(row_id(lost * 60, kind), None)
