"""How old something is: the one rule for every age that is judged or shown."""

from __future__ import annotations

from datetime import datetime

USUAL_SKEW_SECONDS = 5.0
"""A clock that is off by no more is taken for right: an answer takes so long."""

FUTURE_SECONDS = 5.0
"""How far ahead of now a recorded time may be: two clocks or two calls differ by so much."""


def age_seconds(then: datetime | float | None, now: datetime | float) -> float | None:
    """Return how old ``then`` is, in seconds, at least 0; None if that is not known.

    Not known are a missing time and one that is more than :data:`FUTURE_SECONDS` ahead of ``now``:
    a clock was wrong then or is wrong now, so it says nothing about how fresh something is.

    Args:
        then: an aware time or Unix seconds, as ``now``; None for never.
        now: the current time, of the same type.
    """
    if then is None:
        return None
    if isinstance(then, datetime) and isinstance(now, datetime):
        age = (now - then).total_seconds()
    else:
        age = _seconds(now) - _seconds(then)
    return None if age < -FUTURE_SECONDS else max(0.0, age)


def skew_seconds(skew_ms: float | None) -> float:
    """Return by how much a cluster's clock is ahead of ours; 0 for a usual or unknown difference.

    Args:
        skew_ms: the cluster's clock minus ours in milliseconds; None if not known.
    """
    skew = (skew_ms or 0) / 1000
    return skew if abs(skew) > USUAL_SKEW_SECONDS else 0.0


def _seconds(moment: datetime | float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment
