"""The arithmetic of retention. Pure.

**Limits* say for each kind of series and each tier how many days it is kept. The limits *in force*
for a cluster follow those *wanted* for it (its customer's class): longer ones at once, shorter ones
after a grace period, so that a mistake can be undone before it costs data. Deletion works in whole
days, UTC: a limit of 7 days keeps between 7 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from metrics.series.catalog import CATALOG, DEFAULT_DAYS, KINDS, TIERS, Kind
from metrics.series.windows import DAY

GRACE_SECONDS = DAY
"""Time from the moment shorter limits are wanted to the first deletion by them."""

MIN_DAYS = 1
"""At least a day of minutes, so that the hour still being rolled up has all of its minutes."""
MAX_DAYS = 3_660
"""Ten years."""


Limits = Mapping[Kind, Mapping[str, int]]
"""Kind -> tier -> days."""
Horizons = Mapping[Kind, Mapping[str, int]]
"""Kind -> tier -> Unix time before which everything may have been deleted."""


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
    """One kind and tier whose limit becomes shorter, in days."""

    kind: Kind
    tier: str
    days: int
    before_days: int


def cells() -> Iterator[tuple[Kind, str]]:
    """Yield every kind with every tier, in the order of the catalogue."""
    for kind in KINDS:
        for tier in TIERS:
            yield kind, tier


def problems(limits: Mapping[Any, Any]) -> list[str]:
    """Return what is wrong with limits, one readable line each; [] if nothing is.

    Every kind and tier must be present, with 1..3660 days, and no tier may be kept longer than a
    coarser one of the same kind: an old range would show minutes and hide the hours around them.
    """
    found = [f"{kind}: there is no such kind" for kind in limits if kind not in CATALOG]
    for kind in KINDS:
        found += _problems_of(kind, limits.get(kind))
    return found


def _problems_of(kind: Kind, days: Any) -> list[str]:
    if not isinstance(days, Mapping):
        return [f"{kind}: give days for {', '.join(TIERS)}"]
    found = [f"{kind} {tier}: there is no such tier" for tier in days if tier not in TIERS]
    for tier in TIERS:
        value = days.get(tier)
        if type(value) is not int or not MIN_DAYS <= value <= MAX_DAYS:
            found.append(f"{kind} {tier}: use {MIN_DAYS} to {MAX_DAYS} days")
    if found:
        return found
    return [
        f"{kind} {fine}: {days[fine]} days are longer than the {days[coarse]} days of {coarse};"
        " keep a coarser tier at least as long as a finer one"
        for fine, coarse in pairwise(TIERS)
        if days[fine] > days[coarse]
    ]


def complete(limits: Mapping[Any, Any]) -> dict[Kind, dict[str, int]]:
    """Return limits with all current kinds and tiers; missing ones get the defaults.

    For rows that were stored before a kind or tier existed.
    """
    return {
        kind: {tier: int(limits.get(kind, {}).get(tier, DEFAULT_DAYS[tier])) for tier in TIERS}
        for kind in KINDS
    }


def longest(several: Iterable[Limits]) -> dict[Kind, dict[str, int]]:
    """Return the longest limit of each kind and tier; ``several`` holds at least one."""
    every = list(several)
    return {kind: {tier: max(one[kind][tier] for one in every) for tier in TIERS} for kind in KINDS}


def shortenings(before: Limits, after: Limits) -> list[Shortening]:
    """Return the kinds and tiers for which ``after`` is shorter than ``before``."""
    return [
        Shortening(kind, tier, after[kind][tier], before[kind][tier])
        for kind, tier in cells()
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


def bound(now: int, days: int) -> int:
    """Return the Unix time before which a tier of ``days`` is deleted: a midnight, UTC."""
    return max(0, (now - days * DAY) // DAY * DAY)


def bounds(limits: Limits, now: int) -> dict[Kind, dict[str, int]]:
    """Return :func:`bound` for every kind and tier."""
    return {kind: {tier: bound(now, limits[kind][tier]) for tier in TIERS} for kind in KINDS}


def horizons(gone: Horizons | None, more: Horizons) -> dict[Kind, dict[str, int]]:
    """Return up to when each tier is deleted, after one more deletion up to ``more``."""
    before = gone or {}
    return {
        kind: {tier: max(before.get(kind, {}).get(tier, 0), more[kind][tier]) for tier in TIERS}
        for kind in KINDS
    }


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
