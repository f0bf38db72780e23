"""The spool: minutes stored on the agent's disk until the hub has fetched them, bounded.

Every sample is committed (:mod:`agent.spool.database`), so a ``kill -9`` loses at most the sample
being written; after a restart the open minute continues.

A minute of one kind is one row, a packed blob (:mod:`agent.spool.minutes`); folding into an
existing minute is the only way to write, so a minute never exists twice. It holds samples of one
stretch of the clock only: if the clock goes back, a minute that exists takes none of the samples
that come under its name again (:mod:`agent.spool.records`). Everything here blocks and belongs to
one thread; :class:`agent.spool.spool.Spool` is what coroutines use.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.catalog import KINDS, Kind
from agent.clock import Stretch
from agent.samples import Sample, clean_name
from agent.spool.clock_history import ClockHistory
from agent.spool.database import SLICE_MINUTES, SpoolDatabase, row_id
from agent.spool.minutes import Minute, MinuteFormatError
from agent.spool.records import (
    MAX_ERROR,
    UNKNOWN,
    ClockStep,
    MinuteRecord,
    RecordRow,
    joined_failures,
    joined_minutes,
    relevant_steps,
)
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

    Minutes in which nothing was seen count. ``error`` is "" or why the last write failed.
    """

    oldest: int | None
    newest_end: int | None
    size_bytes: int
    error: str
    refused: int = 0
    """Readings since the start that were refused: their minute is of another stretch."""


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
        self._clock = ClockHistory(None, [])
        self._open_start = -1
        self._open_minute: dict[Kind, Minute] = {}
        self._open_record = MinuteRecord(-1)
        self._waiting: dict[int, bytes] = {}  # row -> packed: closed, not on disk yet
        self._waiting_records: dict[int, RecordRow] = {}
        self._trimmed_at = -1
        self.error = ""
        self._refused_at = -1
        self.refused = 0
        """Readings since the start that came under the name of a minute of another stretch."""
        # What is still in memory is written again to a new file, with the names that it needs.
        self._disk = SpoolDatabase(path, max_bytes=max_bytes, replaced=self._all_changed)
        self._series.load(self._disk.with_repair(self._disk.series))
        self._clock = self._disk.with_repair(self._load_clock)

    def close(self) -> None:
        """Write what is pending, if the disk accepts it, and close the file."""
        self._flush()
        self._disk.close()

    def add(
        self,
        at: float,
        samples: Iterable[Sample],
        *,
        stretch: Stretch | None = None,
        interval: int = 0,
        error: str = "",
    ) -> None:
        """Fold one reading, taken at ``at``, into its minute and commit.

        A disk that accepts nothing raises no exception: the minutes wait in memory, ``error`` says
        why, and the next call tries again.

        Args:
            at: Unix time of the reading in seconds.
            samples: what was read; none if nothing was seen.
            stretch: the stretch of the clock that it belongs to; None takes it without a check.
            interval: seconds between readings; only one in each counts. 0: all count.
            error: why nothing was seen.
        """
        start = minute_of(at)
        if stretch is not None:
            self._clock.notice(at, stretch)
        if start != self._open_start:
            self._change_minute(start)
        if not self._open_record.takes(stretch):
            self._refuse(start)
        elif error:
            if not self._open_minute:
                self._open_record.error = clean_name(error, limit=MAX_ERROR) or "no reason given"
        elif self._open_record.is_first(at, interval):
            self._open_record.error = ""
            self._fold(start, samples)
        self._flush()
        if start != self._trimmed_at and not self.error:
            self._trimmed_at = start
            try:
                self._disk.with_repair(self.trim, at)
            except sqlite3.OperationalError as exc:
                logger.error("the spool %s cannot be trimmed: %s", self._path, exc)
                self.error = str(exc)

    def _fold(self, start: int, samples: Iterable[Sample]) -> None:
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

    def failures(self, start: int, end: int) -> list[tuple[int, int, str]]:
        """Return ranges (start, end, error) of ``[start, end)`` in which nothing was seen."""
        rows = {row[0]: row for row in self._disk.with_repair(self._records, start, end)}
        rows |= self._waiting_records
        rows[self._open_start] = self._open_record.as_row()
        inside = (rows[at] for at in sorted(rows) if start <= at < end)
        return joined_failures((at, error) for at, *_, error in inside if error)

    def earlier(self, start: int, end: int, stretch: Stretch | None) -> list[tuple[int, int]]:
        """Return ranges of ``[start, end)`` of other stretches of the clock; none for None."""
        if stretch is None:
            return []
        rows = {row[0]: row for row in self._disk.with_repair(self._records, start, end)}
        rows |= self._waiting_records
        rows[self._open_start] = self._open_record.as_row()
        records = (MinuteRecord.from_row(rows[at]) for at in sorted(rows) if start <= at < end)
        return joined_minutes(one.start for one in records if one.is_earlier(stretch))

    def clock_steps(self, start: int, end: int) -> list[ClockStep]:
        """Return the steps of the clock that explain something about ``[start, end)``."""
        return relevant_steps(self._clock.steps, start, end)

    def series(self, sid: int) -> Series | None:
        """Return one series; None if the spool does not know it (any more)."""
        return self._series.get(sid)

    def state(self, now: float) -> SpoolState:
        """Return what the spool holds as of ``now``."""
        oldest, newest = self._disk.with_repair(self._disk.ends)
        starts = [row // 8 * 60 for row in (oldest, newest) if row is not None]
        starts.extend(row // 8 * 60 for row in self._waiting)
        starts.extend(self._waiting_records)
        if self._open_minute or self._open_record.error:
            starts.append(self._open_start)
        end = closed_end(now)
        if not starts or min(starts) >= end:
            return SpoolState(None, None, self.size_bytes(), self.error, self.refused)
        newest_end = min(max(starts) + 60, end)
        return SpoolState(min(starts), newest_end, self.size_bytes(), self.error, self.refused)

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
        if self._is_worth_a_record():
            self._waiting_records[self._open_start] = self._open_record.as_row()
        self._open_start, self._open_minute, self._open_record = -1, {}, MinuteRecord(-1)
        self._open_minute = self._disk.with_repair(self._load_minute, start)
        self._open_record = self._disk.with_repair(self._load_record, start)
        self._open_start = start

    def _load_record(self, start: int) -> MinuteRecord:
        """Return a minute's record.

        A minute without one is an older agent's. Only the newest can be of the present stretch.
        """
        row = self._waiting_records.get(start)
        found = [row] if row is not None else self._records(start, start + 60)
        if found:
            return MinuteRecord.from_row(found[0])
        newest = self._disk.ends()[1]
        is_newest = newest is None or newest // 8 * 60 <= start
        return MinuteRecord(start, UNKNOWN if self._open_minute and not is_newest else None)

    def _is_worth_a_record(self) -> bool:
        return bool(self._open_record.error or self._open_minute)

    def _refuse(self, start: int) -> None:
        self.refused += 1
        if start != self._refused_at:
            self._refused_at = start
            logger.warning("minute %d was recorded before the clock was set, and stays so", start)

    def _all_changed(self) -> None:
        """Note that the disk has nothing: it is a new file."""
        self._series.all_changed()
        self._clock.all_changed()

    def _load_clock(self) -> ClockHistory:
        return ClockHistory(self._disk.records.stretch(), self._disk.records.clock_steps())

    def _records(self, start: int, end: int) -> list[RecordRow]:
        return self._disk.records.read(start, end)

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
        self._waiting_records.clear()
        self._clock.written()

    def _write(self) -> None:
        records = list(self._waiting_records.values())
        if self._is_worth_a_record():
            records.append(self._open_record.as_row())
        self._disk.write(
            self._series.changed(),
            [*self._waiting.items(), *self._packed_open().items()],
            records,
            self._clock.waiting,
            self._clock.moved(),
        )

    def _bound_waiting(self) -> None:
        for start in sorted(self._waiting_records)[:-MAX_WAITING_MINUTES]:
            del self._waiting_records[start]
        minutes = sorted({row // 8 for row in self._waiting})
        for lost in minutes[:-MAX_WAITING_MINUTES]:
            logger.error("the spool drops minute %d: the disk takes nothing", lost * 60)
            for kind in KINDS:
                self._waiting.pop(row_id(lost * 60, kind), None)
