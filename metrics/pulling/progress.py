"""Progress of filling gaps: how much is done, how fast, and how long it will take. Pure.

Stored as JSON in :attr:`metrics.models.PullSchedule.progress`, from the first run that found a gap
to the one that left none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metrics.series.windows import Window

MAX_RUNS = 10


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of filling one cluster's gaps.

    Attributes:
        gaps: number of open ledger windows.
        minutes_left: number of minutes that are still missing in them.
        oldest: start of the oldest gap in Unix seconds; None if none is open.
        newest: end of the newest gap in Unix seconds; None if none is open.
        since: Unix time at which filling began; None if it has not.
        minutes_done: number of minutes filled or found to be lost since then.
        minutes_per_second: rate over the last runs and the time between them; None before the
            first.
        seconds_left: remaining seconds at that rate; None if not known.
    """

    gaps: int
    minutes_left: int
    oldest: int | None
    newest: int | None
    since: int | None
    minutes_done: int
    minutes_per_second: float | None
    seconds_left: float | None

    @property
    def ratio(self) -> float:
        """Return the part that is done, 0..1."""
        whole = self.minutes_done + self.minutes_left
        return self.minutes_done / whole if whole else 1.0

    @property
    def percent(self) -> float:
        """Return the same as 0..100, for a bar."""
        return 100 * self.ratio


def measured(open_gaps: Iterable[Window], stored: Mapping[str, Any]) -> Progress:
    """Return the progress.

    Args:
        open_gaps: ledger windows in state gap.
        stored: the last result of :func:`after_run`; {} before the first run.
    """
    windows = list(open_gaps)
    left = sum(window.expected - window.got for window in windows)
    rate = _rate(stored.get("runs", ()))
    return Progress(
        gaps=len(windows),
        minutes_left=left,
        oldest=min((window.start for window in windows), default=None),
        newest=max((window.end for window in windows), default=None),
        since=stored.get("since"),
        minutes_done=int(stored.get("done", 0)),
        minutes_per_second=rate,
        seconds_left=0.0 if not left else left / rate if rate else None,
    )


def after_run(
    stored: Mapping[str, Any], began: float, ended: float, minutes: int, *, longest: int | None
) -> dict[str, Any]:
    """Return the progress to store after a run that left gaps open.

    Args:
        stored: the progress stored before it; {} before the first run.
        began: start of the run in Unix seconds.
        ended: end of the run in Unix seconds.
        minutes: number of minutes that it filled or found to be lost.
        longest: longest request in seconds that the source answered; None for its own limit.
    """
    runs = [*stored.get("runs", ()), [round(began, 3), round(ended, 3), minutes]][-MAX_RUNS:]
    return {
        "since": stored.get("since") or int(began),
        "done": int(stored.get("done", 0)) + minutes,
        "runs": runs,
        "longest": longest,
    }


def _rate(runs: Sequence[Sequence[float]]) -> float | None:
    """Return minutes per second from the start of the first run to the end of the last."""
    if not runs:
        return None
    seconds = runs[-1][1] - runs[0][0]
    minutes = sum(run[2] for run in runs)
    return minutes / seconds if seconds > 0 and minutes > 0 else None
