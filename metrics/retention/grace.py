"""The grace period before shorter limits delete anything. Pure.

The limits *in force* for a cluster follow those *wanted* for it (its customer's class): longer ones
at once, shorter ones after the grace period, so that a mistake can be undone before it costs data.
"""

from __future__ import annotations

from dataclasses import dataclass

from metrics.retention.rules import Horizons, Limits, every_limit, longest
from metrics.series.catalog import TIERS, Kind, LimitName
from metrics.series.windows import DAY

GRACE_SECONDS = DAY
"""Time from the moment shorter limits are wanted to the first deletion by them."""


@dataclass(frozen=True, slots=True)
class EffectiveLimits:
    """The retention of one cluster.

    Attributes:
        limits: the limits that deletion applies.
        wanted: the limits of its class, as last seen.
        shorter_since: Unix time at which any limit of ``wanted`` became shorter than in ``limits``;
            None while they are equal.
        gone: up to when each tier was ever deleted; None for never.
    """

    limits: Limits
    wanted: Limits
    shorter_since: int | None = None
    gone: Horizons | None = None

    @property
    def due_at(self) -> int | None:
        """Return when the shorter limits come into force; None if there are none."""
        return None if self.shorter_since is None else self.shorter_since + GRACE_SECONDS


@dataclass(frozen=True, slots=True)
class Shortening:
    """One kind and tier, or the history, whose limit becomes shorter, in days."""

    kind: LimitName
    tier: str
    days: int
    before_days: int


def shortenings(before: Limits, after: Limits) -> list[Shortening]:
    """Return the limits for which ``after`` is shorter than ``before``."""
    return [
        Shortening(kind, tier, after[kind][tier], before[kind][tier])
        for kind, tier in every_limit()
        if after[kind][tier] < before[kind][tier]
    ]


def advance(effective: EffectiveLimits | None, wanted: Limits, now: int) -> EffectiveLimits:
    """Return the limits in force now, given those in force before and those wanted.

    Longer limits apply at once. Shorter ones wait for the grace period; if the wanted limits become
    shorter still meanwhile, all of them wait anew. Calling it again without a change changes
    nothing before the grace period is over.

    Args:
        effective: the limits last returned; None for a cluster that was never seen: nothing was
            promised about it, so the wanted limits apply at once.
        wanted: the limits of the class now.
        now: current Unix time in seconds.
    """
    if effective is None:
        return EffectiveLimits(wanted, wanted)
    if not shortenings(effective.limits, wanted):
        return EffectiveLimits(wanted, wanted, None, effective.gone)
    restart = effective.shorter_since is None or bool(shortenings(effective.wanted, wanted))
    since = now if restart or effective.shorter_since is None else effective.shorter_since
    if now >= since + GRACE_SECONDS:
        return EffectiveLimits(wanted, wanted, None, effective.gone)
    return EffectiveLimits(longest((effective.limits, wanted)), wanted, since, effective.gone)


def reach_seconds(effective: EffectiveLimits, kind: Kind, now: int) -> dict[str, int]:
    """Return how far back each tier of a kind goes, in seconds before ``now``.

    Where a limit was made longer, what the shorter one deleted does not come back: the tier goes
    back no further than that until it has grown.
    """
    gone = (effective.gone or {}).get(kind, {})
    return {
        tier: max(0, min(effective.limits[kind][tier] * DAY, now - gone.get(tier, 0)))
        for tier in TIERS
    }
