"""Which windows are asked for again because data comes late. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from metrics.connections.source_limits import SourceLimits
from metrics.series.windows import Window, floor_bucket

LATE_DELAYS = (600, 3600, 6 * 3600)  # after so long a window is looked at again for late data


def late_windows(
    windows: Iterable[Window], delay: int, since: int, now: float, limits: SourceLimits
) -> list[Window]:
    """Return the windows to look at again because data may have come ``delay`` seconds late.

    Those that were had later than that already, and those that are held in wider values, are
    not looked at.

    Args:
        windows: of the ledger, done and lost ones.
        delay: one of :data:`LATE_DELAYS`.
        since: the end of what was looked at before for this delay.
        now: the time.
        limits: of the source.
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
    """Return up to where windows are old enough to be looked at again after ``delay``."""
    return floor_bucket(now - delay - limits.settle_seconds)
