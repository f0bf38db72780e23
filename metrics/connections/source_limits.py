"""What a source sets for those who ask it: settling, overlap, reach. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from metrics.series.windows import BUCKET, DAY

FIRST_REACH = 7 * DAY  # how much of a new cluster's past is fetched from its agent
OLDEST_SECONDS = 24 * 3600
USUAL_BEHIND_MS = 60_000
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """What a source keeps and stands, as far as asking it goes.

    Attributes:
        settle_seconds: how long after its end, by our clock, a minute is complete at the source.
        behind_seconds: how much of that is because the source's clock is behind ours.
        overlap_seconds: for how long it may change a minute that it has served; 0 = never.
        longest_request: of one question, in seconds.
        reaches: (step, for how long values of this step are kept) in seconds, finest first; None
            for "not known".
        source: which one it is, by kind and service; "" for the agent's own collectors.
        since: minutes before it that are stored come from another source and stay as they are.
        late: whether data may arrive at the source after its time.
        wanted: how much of the past is kept here at all, in seconds; None for everything.
    """

    settle_seconds: int = 0
    behind_seconds: int = 0
    overlap_seconds: int = 0
    longest_request: int = 3 * BUCKET
    reaches: tuple[tuple[int, int | None], ...] = ((60, FIRST_REACH),)
    source: str = ""
    since: int = 0
    late: bool = False
    wanted: int | None = None

    @property
    def longest_reach(self) -> int | None:
        """Return for how long the source keeps anything; None if that is not known."""
        known = [reach for _, reach in self.reaches if reach is not None]
        return max(known) if len(known) == len(self.reaches) else None

    @property
    def first_reach(self) -> int | None:
        """Return how much of a new cluster's past is asked for; None for all of it."""
        return min((r for r in (self.longest_reach, self.wanted) if r is not None), default=None)

    def step_at(self, start: int, now: float) -> tuple[int, float]:
        """Return the finest step that reaches back to ``start``, and when it is forgotten.

        The widest step, and the end of time, if none reaches so far: the source is asked last.
        """
        for step, reach in self.reaches:
            if reach is None:
                return step, _NEVER
            if start >= now - reach:
                return step, start + reach
        return self.reaches[-1][0], _NEVER


def behind_seconds(skew_ms: int | None) -> int:
    """Return by how much a source's minutes end later by our clock than by its own.

    Without this, a cluster whose clock is far behind would be asked for minutes that it has not
    had yet, and never for those that it has.

    Args:
        skew_ms: the source's clock minus ours, as of the last pull; None if not known.

    Returns:
        Whole seconds; 0 for a clock that is ahead, or hardly behind.
    """
    if skew_ms is None or skew_ms > -USUAL_BEHIND_MS:
        return 0
    return min(OLDEST_SECONDS, ceil(-skew_ms / 1000))
