"""How far the filling of gaps is, how fast it goes, and when it will be done. Pure.

Kept as JSON in :attr:`metrics.models.PullSchedule.progress`, from the first run that found a gap
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
    """The filling of one cluster's gaps.

    Attributes:
        gaps: ledger windows that are open.
        minutes_left: minutes in them that were not had yet.
        oldest: start of the oldest; None if none is open.
        newest: end of the newest; None if none is open.
        since: when filling began; None if it has not.
        minutes_done: since then, filled or found to be lost.
        minutes_per_second: over the last runs and the time between them; None before the first.
        seconds_left: at that rate; None if that cannot be told.
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
        """Return how much of it is done, 0..1."""
        whole = self.minutes_done + self.minutes_left
        return self.minutes_done / whole if whole else 1.0

    @property
    def percent(self) -> float:
        """Return the same as 0..100, for a bar."""
        return 100 * self.ratio


def measured(open_gaps: Iterable[Window], kept: Mapping[str, Any]) -> Progress:
    """Return how far it is.

    Args:
        open_gaps: ledger windows in state gap.
        kept: of :func:`after_run`; {} before the first run.
    """
    windows = list(open_gaps)
    left = sum(window.expected - window.got for window in windows)
    rate = _rate(kept.get("runs", ()))
    return Progress(
        gaps=len(windows),
        minutes_left=left,
        oldest=min((window.start for window in windows), default=None),
        newest=max((window.end for window in windows), default=None),
        since=kept.get("since"),
        minutes_done=int(kept.get("done", 0)),
        minutes_per_second=rate,
        seconds_left=0.0 if not left else left / rate if rate else None,
    )


def after_run(
    kept: Mapping[str, Any], began: float, ended: float, minutes: int, *, longest: int | None
) -> dict[str, Any]:
    """Return what is kept after a run that left gaps open.

    Args:
        kept: before it.
        began: of the run, Unix seconds.
        ended: of the run.
        minutes: that it filled or found to be lost.
        longest: question in seconds that the source answered well; None for its own limit.
    """
    runs = [*kept.get("runs", ()), [round(began, 3), round(ended, 3), minutes]][-MAX_RUNS:]
    return {
        "since": kept.get("since") or int(began),
        "done": int(kept.get("done", 0)) + minutes,
        "runs": runs,
        "longest": longest,
    }


def _rate(runs: Sequence[Sequence[float]]) -> float | None:
    """Return minutes a second from the start of the first run to the end of the last."""
    if not runs:
        return None
    seconds = runs[-1][1] - runs[0][0]
    minutes = sum(run[2] for run in runs)
    return minutes / seconds if seconds > 0 and minutes > 0 else None
