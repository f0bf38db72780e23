"""Which windows are asked for again because data comes late. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from metrics.connections.source_limits import Terms
from metrics.series.windows import Window, floor_slot

LATE_DELAYS = (600, 3600, 6 * 3600)  # after so long a window is looked at again for late data


def late_windows(
    lines: Iterable[Window], delay: int, since: int, now: float, terms: Terms
) -> list[Window]:
    """Return the windows to look at again because data may have come ``delay`` seconds late.

    Those that were had later than that already, and those that are held in wider values, are
    not looked at.

    Args:
        lines: of the ledger, done and lost ones.
        delay: one of :data:`LATE_DELAYS`.
        since: the end of what was looked at before for this delay.
        now: the time.
        terms: of the source.
    """
    until = late_until(delay, now, terms)
    return [
        line
        for line in lines
        if line.state != "gap"
        and line.resolution == 60
        and since < line.end <= until
        and (line.filled_at is None or line.filled_at < line.end + delay)
    ]


def late_until(delay: int, now: float, terms: Terms) -> int:
    """Return up to where windows are old enough to be looked at again after ``delay``."""
    return floor_slot(now - delay - terms.settle_seconds)
