"""How long what is kept: the arithmetic of retention. Pure.

*Limits* say for each kind of series and each tier how many days it is kept. What is *in force* for
a cluster follows what is *wanted* for it (its customer's class), longer ones at once, shorter ones
after a grace, so that a mistake can still be taken back before it costs data. Deletion goes by
whole days, UTC: a limit of 7 days keeps between 7 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from metrics.series.catalog import CATALOG, DEFAULT_DAYS, KINDS, TIERS, Kind
from metrics.series.windows import DAY

GRACE_SECONDS = DAY
"""From the moment that shorter limits are wanted to the first deletion by them."""

MIN_DAYS = 1
"""A day of minutes at least: the hour that is still being rolled up never lacks some."""
MAX_DAYS = 3_660
"""Ten years."""


Limits = Mapping[Kind, Mapping[str, int]]
"""Kind -> tier -> days."""
Horizons = Mapping[Kind, Mapping[str, int]]
"""Kind -> tier -> Unix time before which everything may have been deleted."""


@dataclass(frozen=True, slots=True)
class Force:
    """What holds for one cluster.

    Attributes:
        limits: what deletion goes by.
        wanted: what its class says, as last seen.
        shorter_since: Unix time at which ``wanted`` became shorter than ``limits`` in a place;
            None while they are equal.
        gone: how far each tier was deleted, ever.
    """

    limits: Limits
    wanted: Limits
    shorter_since: int | None = None
    gone: Horizons | None = None

    @property
    def due_at(self) -> int | None:
        """Return when the shorter limits come into force; None if none wait."""
        return None if self.shorter_since is None else self.shorter_since + GRACE_SECONDS


@dataclass(frozen=True, slots=True)
class Shortening:
    """One place in which limits become shorter."""

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
    """Return what is wrong with limits, one line for people each; [] if nothing is.

    Every kind and tier has to be there, in 1..3660 days, and no tier may be kept longer than a
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
    """Return limits with every kind and tier of today; what is missing takes the defaults.

    For rows that were stored before a kind or tier existed.
    """
    return {
        kind: {tier: int(limits.get(kind, {}).get(tier, DEFAULT_DAYS[tier])) for tier in TIERS}
        for kind in KINDS
    }


def longest(several: Iterable[Limits]) -> dict[Kind, dict[str, int]]:
    """Return the longest limit of each place; ``several`` holds at least one."""
    every = list(several)
    return {kind: {tier: max(one[kind][tier] for one in every) for tier in TIERS} for kind in KINDS}


def shortenings(before: Limits, after: Limits) -> list[Shortening]:
    """Return the places in which ``after`` keeps less than ``before``."""
    return [
        Shortening(kind, tier, after[kind][tier], before[kind][tier])
        for kind, tier in cells()
        if after[kind][tier] < before[kind][tier]
    ]


def advance(force: Force | None, wanted: Limits, now: int) -> Force:
    """Return what holds now, given what held before and what is wanted.

    Longer limits hold at once. Shorter ones wait for the grace; if what is wanted becomes shorter
    still meanwhile, all of it waits anew. Calling it again without a change changes nothing
    before the grace is over.

    Args:
        force: as last returned; None for a cluster that was never looked at: nothing was promised
            about it, so that what is wanted holds at once.
        wanted: what the class says now.
        now: Unix time.
    """
    if force is None:
        return Force(wanted, wanted)
    if not shortenings(force.limits, wanted):
        return Force(wanted, wanted, None, force.gone)
    anew = force.shorter_since is None or bool(shortenings(force.wanted, wanted))
    since = now if anew or force.shorter_since is None else force.shorter_since
    if now >= since + GRACE_SECONDS:
        return Force(wanted, wanted, None, force.gone)
    return Force(longest((force.limits, wanted)), wanted, since, force.gone)


def bound(now: int, days: int) -> int:
    """Return the moment before which a tier of ``days`` is deleted: a midnight, UTC."""
    return max(0, (now - days * DAY) // DAY * DAY)


def bounds(limits: Limits, now: int) -> dict[Kind, dict[str, int]]:
    """Return :func:`bound` for every kind and tier."""
    return {kind: {tier: bound(now, limits[kind][tier]) for tier in TIERS} for kind in KINDS}


def horizons(gone: Horizons | None, more: Horizons) -> dict[Kind, dict[str, int]]:
    """Return how far each tier was deleted after a deletion before ``more``."""
    before = gone or {}
    return {
        kind: {tier: max(before.get(kind, {}).get(tier, 0), more[kind][tier]) for tier in TIERS}
        for kind in KINDS
    }


def kept_seconds(force: Force, kind: Kind, now: int) -> dict[str, int]:
    """Return how far back each tier of a kind reaches, in seconds before ``now``.

    Where a limit was made longer, what the shorter one deleted does not come back: the tier
    reaches back to there only, until it has grown.
    """
    gone = (force.gone or {}).get(kind, {})
    return {
        tier: max(0, min(force.limits[kind][tier] * DAY, now - gone.get(tier, 0))) for tier in TIERS
    }
