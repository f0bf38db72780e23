"""The spool's tables of records: minutes beside their values, steps of the clock, its last stretch.

A file of an older agent lacks them until the first write. That agent neither needs nor minds them,
so the file's version stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from agent.clock import Stretch
from agent.spool.records import MAX_STEPS, ClockStep, RecordRow

_TABLES = (
    "CREATE TABLE IF NOT EXISTS record (start INTEGER PRIMARY KEY, boot TEXT NOT NULL,"
    " shift REAL NOT NULL, seconds INTEGER NOT NULL, error TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS clock_step (id INTEGER PRIMARY KEY, minute INTEGER NOT NULL,"
    " was REAL NOT NULL, now REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 0), boot TEXT NOT NULL,"
    " shift REAL NOT NULL)",
)


class RecordTables:
    """The tables, in the spool's open file; transactions are the caller's."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._exist = False
        self.look()

    def look(self) -> None:
        """Look again whether the tables exist, after a transaction was rolled back."""
        found = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'clock'").fetchone()
        self._exist = found is not None

    def ends(self) -> list[int]:
        """Return the first and the last minute with a record; [] if there is none."""
        if not self._exist:
            return []
        ends = self._db.execute("SELECT min(start), max(start) FROM record").fetchone()
        return [start for start in ends if start is not None]

    def read(self, start: int, end: int) -> list[RecordRow]:
        """Return records, ascending, with ``start <= t < end``."""
        if not self._exist:
            return []
        return self._db.execute(
            "SELECT start, boot, shift, seconds, error FROM record"
            " WHERE start >= ? AND start < ? ORDER BY start",
            (start, end),
        ).fetchall()

    def stretch(self) -> Stretch | None:
        """Return the stretch of the newest reading; None if it is not known."""
        row = self._db.execute("SELECT boot, shift FROM clock").fetchone() if self._exist else None
        return None if row is None else Stretch(*row)

    def clock_steps(self) -> list[ClockStep]:
        """Return the steps of the clock, in the order in which they were seen."""
        if not self._exist:
            return []
        rows = self._db.execute("SELECT minute, was, now FROM clock_step ORDER BY id")
        return [ClockStep(*row) for row in rows]

    def write(
        self,
        records: Iterable[RecordRow],
        steps: Iterable[ClockStep],
        stretch: Stretch | None,
    ) -> None:
        """Put records, steps and the newest stretch; create the tables if they are missing."""
        if not self._exist:
            for statement in _TABLES:
                self._db.execute(statement)
            self._exist = True
        self._db.executemany(
            "INSERT OR REPLACE INTO record (start, boot, shift, seconds, error)"
            " VALUES (?, ?, ?, ?, ?)",
            records,
        )
        for step in steps:
            self._db.execute("INSERT INTO clock_step (minute, was, now) VALUES (?, ?, ?)", step)
            self._db.execute(
                "DELETE FROM clock_step WHERE id <= (SELECT max(id) - ? FROM clock_step)",
                (MAX_STEPS,),
            )
        if stretch is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO clock (id, boot, shift) VALUES (0, ?, ?)",
                (stretch.boot, stretch.shift),
            )

    def drop(self, before: int) -> int:
        """Delete what is from before a Unix time; return the number of records."""
        if not self._exist:
            return 0
        self._db.execute("DELETE FROM clock_step WHERE min(was, now) < ?", (before,))
        return self._db.execute("DELETE FROM record WHERE start < ?", (before,)).rowcount
