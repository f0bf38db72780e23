"""Which windows are requested again because data comes late. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from metrics.connections.source_limits import SourceLimits
from metrics.series.windows import Window, floor_bucket

LATE_DELAYS = (600, 3600, 6 * 3600)  # seconds after which a window is checked for late data


def late_windows(
    windows: Iterable[Window], delay: int, since: int, now: float, limits: SourceLimits
) -> list[Window]:
    """Return the windows to request again because data may have come ``delay`` seconds late.

    Leaves out windows that were filled later than that, and those stored in wider values.

    Args:
        windows: windows of the ledger, done and lost ones.
        delay: the delay in seconds, one of :data:`LATE_DELAYS`.
        since: Unix time in seconds up to which windows were checked for this delay before.
        now: current Unix time in seconds.
        limits: the source's limits.
    """
    until = late_until(delay, now, limits)
    return [
        window
        for window in windows
        if window.state != "gap"
        and window.resolution == 60
        and since < window.end <= until
        and (window.filled_at is None or window.filled_at < window.end + delay)
    ]


def late_until(delay: int, now: float, limits: SourceLimits) -> int:
    """Return the Unix time up to which windows are old enough to check after ``delay`` seconds."""
    return floor_bucket(now - delay - limits.settle_seconds)
