"""The limits that a source sets for requests: settling, overlap, reach. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from metrics.series.windows import BUCKET, DAY

FIRST_REACH = 7 * DAY  # how much of a new cluster's past is fetched from its agent
OLDEST_SECONDS = 24 * 3600
AHEAD_SECONDS = 300  # how far in the future, by our clock, minutes are stored
USUAL_SKEW_MS = 60_000
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """What a source keeps, and which requests it tolerates.

    Attributes:
        settle_seconds: how long after its end, by our clock, a minute is complete at the source.
        behind_seconds: the part of it that is due to the source's clock being behind ours; negative
            where that clock is ahead.
        overlap_seconds: how long it may change a minute that it has served; 0 = never.
        longest_request: longest window of one request in seconds.
        reaches: (step, how long values of this step are kept) in seconds, finest first; None for
            "not known".
        source: the source's kind and service; "" for the agent's own collectors.
        since: Unix time in seconds; stored minutes before it come from another source and stay as
            they are.
        late: whether data may arrive at the source late.
        wanted: how much of the past our retention keeps, in seconds; None for everything.
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
        """Return how long the source keeps anything, in seconds; None if not known."""
        known = [reach for _, reach in self.reaches if reach is not None]
        return max(known) if len(known) == len(self.reaches) else None

    @property
    def first_reach(self) -> int | None:
        """Return how much of a new cluster's past to fetch, in seconds; None for all of it."""
        return min((r for r in (self.longest_reach, self.wanted) if r is not None), default=None)

    def step_at(self, start: int, now: float) -> tuple[int, float]:
        """Return the finest step that the source has at ``start``, and when it will expire there.

        The widest step, and infinity, if none goes back that far: it is then requested last.
        """
        for step, reach in self.reaches:
            if reach is None:
                return step, _NEVER
            if start >= now - reach:
                return step, start + reach
        return self.reaches[-1][0], _NEVER


def behind_seconds(skew_ms: int | None) -> int:
    """Return how much later a source's minutes end by our clock than by its own.

    Without this, a cluster whose clock is far behind would be asked for minutes that have not begun
    there, and never for those that it has; one whose clock is ahead only for old ones.

    Args:
        skew_ms: the source's clock minus ours in milliseconds, as of the last pull; None if not
            known.

    Returns:
        Whole seconds; negative, at most :data:`AHEAD_SECONDS`, for a clock that is ahead; 0 for one
        that is hardly off.
    """
    if skew_ms is None or abs(skew_ms) < USUAL_SKEW_MS:
        return 0
    if skew_ms > 0:
        return -min(AHEAD_SECONDS, skew_ms // 1000)
    return min(OLDEST_SECONDS, ceil(-skew_ms / 1000))
