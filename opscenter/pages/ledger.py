"""The ledger as people read it: runs of windows with the same content are one row. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from metrics.charts.figure import reason_text
from metrics.query import Window

BEFORE_JOINING = "Recorded before this cluster joined; filled since"
SHOWN = 24
"""Months of backfill are thousands of windows with the same content."""


@dataclass(frozen=True, slots=True)
class Run:
    """Windows of one state, reason and detail that follow one another, newest first."""

    windows: tuple[Window, ...]

    @property
    def first(self) -> Window:
        """Return the newest window, whose content is that of all."""
        return self.windows[0]

    @property
    def start(self) -> int:
        """Return the start of the oldest, in Unix seconds."""
        return self.windows[-1].start

    @property
    def end(self) -> int:
        """Return the end of the newest, in Unix seconds."""
        return self.windows[0].end

    @property
    def shown(self) -> tuple[Window, ...]:
        """Return the newest windows, as many as a page lists of one run."""
        return self.windows[:SHOWN]

    @property
    def more(self) -> int:
        """Return how many windows a page leaves out."""
        return len(self.windows) - len(self.shown)

    @property
    def seconds(self) -> int:
        """Return the length in seconds."""
        return self.end - self.start

    @property
    def got(self) -> int:
        """Return how many minutes have data."""
        return sum(window.got for window in self.windows)

    @property
    def expected(self) -> int:
        """Return how many minutes there are."""
        return sum(window.expected for window in self.windows)

    @property
    def attempts(self) -> int:
        """Return the most attempts that any of them took."""
        return max(window.attempts for window in self.windows)

    @property
    def filled_at(self) -> int | None:
        """Return when the last of them was filled; None if none was."""
        return max((w.filled_at for w in self.windows if w.filled_at), default=None)

    @property
    def why(self) -> str:
        """Return the reason in words; "" for none."""
        first = self.first
        if first.reason == "not_enrolled" and first.state == "done":
            return BEFORE_JOINING
        return reason_text(first.state, first.reason) if first.reason else ""

    @property
    def detail(self) -> str:
        """Return what is known beyond the reason; "" if the reason says it all."""
        return "" if self.why == BEFORE_JOINING else self.first.detail


def runs(newest_first: Iterable[Window], *, fold: bool = True) -> list[Run]:
    """Return the windows as runs, newest first; one run per window without ``fold``."""
    found: list[list[Window]] = []
    for window in newest_first:
        if fold and found and _continues(found[-1][-1], window):
            found[-1].append(window)
        else:
            found.append([window])
    return [Run(tuple(windows)) for windows in found]


def _continues(newer: Window, older: Window) -> bool:
    """Return whether the older window ends where the newer begins and has the same content."""
    return older.end == newer.start and _content(older) == _content(newer)


def _content(window: Window) -> tuple[str, str, str, bool, int]:
    filled = window.filled_at is not None
    return window.state, window.reason, window.detail, filled, window.resolution
