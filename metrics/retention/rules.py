"""The arithmetic of retention. Pure.

*Limits* say for each kind of series and each tier how many days it is kept. The limits *in force*
for a cluster follow those *wanted* for it (its customer's class): longer ones at once, shorter ones
after a grace period, so that a mistake can be undone before it costs data. Deletion works in whole
days, UTC: a limit of 7 days keeps between 7 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from metrics.series.catalog import CATALOG, DEFAULT_DAYS, KINDS, TIERS, Kind
from metrics.series.windows import DAY

MIN_DAYS = 1
"""At least a day of minutes, so that the hour still being rolled up has all of its minutes."""
MAX_DAYS = 3_660
"""Ten years."""

Limits = Mapping[Kind, Mapping[str, int]]
"""Kind -> tier -> days."""
Horizons = Mapping[Kind, Mapping[str, int]]
"""Kind -> tier -> Unix time before which everything may have been deleted."""


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
