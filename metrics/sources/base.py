"""What every source is: an adapter that turns a window of one cluster into rows.

A source knows neither Django nor the tunnel: it gets a client that asks the cluster, and it
trusts nothing that comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from metrics.stores.base import MinuteRow, SeriesInfo
from metrics.turns import Turn


class JsonClient(Protocol):
    """Asks one service of one cluster, with a deadline and a cap on the answer's size."""

    async def get_json(
        self,
        path: str,
        params: Mapping[str, str] = ...,
        *,
        before_parsing: Callable[[], object] = ...,
    ) -> Any:
        """Return the parsed answer; call ``before_parsing`` once it is in.

        Raises:
            ClusterError: the cluster, or the service in it, did not answer acceptably.
        """


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
        now: the source's own clock.
        agent_version: as it says itself; "" if it does not say.
        kind: "host", "kubernetes" or "".
        minutes_alive: minutes of ``[start, end)`` in which the source recorded anything.
        ignored: kinds, fields and rows that were left out because this version knows no such kind.
    """

    rows: Sequence[MinuteRow]
    infos: Sequence[SeriesInfo]
    start: int
    end: int
    oldest: int | None
    newest_end: int | None
    now: float
    agent_version: str
    kind: str
    minutes_alive: frozenset[int]
    ignored: int = 0


class Source(Protocol):
    """Reads windows of one cluster.

    Attributes:
        overlap_seconds: how long the source may still change a minute that it has served; 0 if a
            minute is final once it is served.
    """

    overlap_seconds: ClassVar[int]

    async def fetch(
        self, client: JsonClient, start: int, end: int, *, now: float, turn: Turn
    ) -> SourceAnswer:
        """Return what the cluster has of ``[start, end)``.

        Args:
            client: asks the cluster.
            start: minute aligned, Unix seconds.
            end: exclusive, minute aligned.
            now: our clock, to judge the cluster's by.
            turn: taken before an answer is parsed, given back while the cluster is asked; held
                at the end, for the caller to store the rows.

        Raises:
            ClusterError: nothing can be said of the window.
        """
