"""What a source answers for a window, checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metrics.series.rows import CoarseRow, MinuteRow, SeriesInfo


@dataclass(frozen=True, slots=True)
class CollectorState:
    """What a source says about its own sight when it answered.

    Attributes:
        ok: whether its last reading succeeded.
        error: why it did not, or what it could not read; "" for neither.
        last_at: time of its last good reading in Unix seconds, by its own clock; None before one.
        problems: node, or another part of the cluster -> why it has no numbers, as a sentence. ""
            is the cluster as a whole.
    """

    ok: bool
    error: str
    last_at: float | None
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What a source has of the requested window, checked. Times are Unix seconds, minute aligned.

    Attributes:
        rows: minutes, ascending by time; no (time, series) twice.
        infos: every series that the answer names.
        start: start of the requested window.
        end: the source covered ``[start, end)``: what is not in ``rows`` before ``end``, it does
            not have. Earlier than requested if the newest minute is still open or the answer was
            cut.
        oldest: start of the oldest minute that the source still has; None if it has none, or
            cannot tell.
        newest_end: end of the newest minute that it has; None if it has none.
        now: the source's own clock when its last answer arrived, in Unix seconds.
        agent_version: as the agent reports it; "" if it does not.
        kind: "host", "kubernetes" or "".
        minutes_alive: minutes of ``[start, end)`` in which the source recorded anything; for
            coarse answers every minute that a coarse value stands for.
        ignored: number of kinds, fields and rows left out because this version does not know them.
        coarse: wider buckets, where the source keeps no minutes of the window; an answer has
            either rows or coarse rows.
        resolution: step of the answer in seconds: 60, or that of the coarse values.
        notes: short lines for display about oddities of the answer, e.g. two replicas.
        rejected: number of rows left out because their time is outside the requested window.
        collector: what the source says about its own sight; None if it does not say: an agent of
            before, or another kind of source.
        failed: minute -> why nothing was seen in it although the source ran. None of these minutes
            is in ``minutes_alive``.
        clock_steps: (minute, from, to) in Unix seconds: steps of the source's clock that touch the
            window, in the order in which they happened; ``minute`` is the one that a step ended.
        earlier: minutes that a clock named which was set since, or stands still: their values are
            true, but say nothing about now.
        lists_nodes: whether the answer's nodes are a list of what should be there, e.g. Kubernetes'
            own: a node that is absent was removed. False: a node that is absent is missing.
        refused: number of values that were not believed, by reason; see
            :mod:`metrics.sources.plausible`.
    """

    # No repr: asyncio.run() in a main thread computes it for its return value, twice.
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
    collector: CollectorState | None = None
    failed: Mapping[int, str] = field(default_factory=dict, repr=False)
    clock_steps: Sequence[tuple[int, float, float]] = ()
    earlier: frozenset[int] = field(default=frozenset(), repr=False)
    lists_nodes: bool = False
    refused: Mapping[str, int] = field(default_factory=dict)
