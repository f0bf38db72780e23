"""What a source answers for a window, checked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from metrics.series.rows import CoarseRow, MinuteRow, SeriesInfo


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What a source has of the asked window, checked. Times are Unix seconds, minute aligned.

    Attributes:
        rows: ascending by time; no (time, series) twice.
        infos: every series that the answer names.
        start: start of the asked window.
        end: the source covered ``[start, end)``: what is not in ``rows`` up to there, it does not
            have. Less than asked if the newest minute is still open or the answer was cut.
        oldest: start of the oldest minute that the source still has; None if it has none.
        newest_end: end of the newest minute that it has; None if it has none.
        now: the source's own clock when its last answer was in.
        agent_version: as it says itself; "" if it does not say.
        kind: "host", "kubernetes" or "".
        minutes_alive: minutes of ``[start, end)`` in which the source recorded anything; for
            coarse answers every minute that a coarse value stands for.
        ignored: kinds, fields and rows that were left out because this version knows no such kind.
        coarse: wider buckets, where the source keeps no minutes of the window; an answer has
            either rows or coarse rows.
        resolution: step in seconds of what the answer holds: 60, or the coarse values' own.
        notes: short lines for people about what is odd in the answer, e.g. two replicas.
        rejected: rows that were left out because their time is outside what was asked for.
    """

    # Not shown: asyncio.run() in a main thread takes the repr of what it returns, twice.
    rows: Sequence[MinuteRow] = field(repr=False)
    infos: Sequence[SeriesInfo] = field(repr=False)
    start: int
    end: int
    oldest: int | None
    newest_end: int | None
    now: float
    agent_version: str
    kind: str
    minutes_alive: frozenset[int] = field(repr=False)
    ignored: int = 0
    coarse: Sequence[CoarseRow] = field(default=(), repr=False)
    resolution: int = 60
    notes: Sequence[str] = ()
    rejected: int = 0
