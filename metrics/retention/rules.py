"""The arithmetic of retention. Pure.

*Limits* say for each kind of series and each tier how many days it is kept, and for the history of
states and findings (``history``, ``days``) likewise. The limits *in force*
for a cluster follow those *wanted* for it (its customer's class): longer ones at once, shorter ones
after a grace period, so that a mistake can be undone before it costs data. Deletion works in whole
days, UTC: a limit of 7 days keeps between 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from metrics.series.catalog import (
    CATALOG,
    DEFAULT_DAYS,
    DEFAULT_HISTORY_DAYS,
    KINDS,
    TIERS,
    Kind,
    LimitName,
)
from metrics.series.windows import DAY

MIN_DAYS = 1
"""At least a day of minutes, so that the hour still being rolled up has all of its minutes."""
MAX_DAYS = 3_660
"""Ten years."""

Limits = Mapping[LimitName, Mapping[str, int]]
"""Kind -> tier -> days; "history" -> "days" -> days."""
Horizons = Mapping[LimitName, Mapping[str, int]]
"""The same names -> Unix time before which everything may have been deleted."""


def cells() -> Iterator[tuple[Kind, str]]:
    """Yield every kind with every tier, in the order of the catalogue."""
    for kind in KINDS:
        for tier in TIERS:
            yield kind, tier


def every_limit() -> Iterator[tuple[LimitName, str]]:
    """Yield every name of a limit: the cells, then the history."""
    yield from cells()
    yield "history", "days"


def problems(limits: Mapping[Any, Any]) -> list[str]:
    """Return what is wrong with limits, one readable line each; [] if nothing is.

    Every kind and tier must be present, with 1..3660 days, and no tier may be kept longer than a
    coarser one of the same kind: an old range would show minutes and hide the hours around them.
    The history may be left out, see :func:`complete`.
    """
    found = [
        f"{kind}: there is no such kind"
        for kind in limits
        if kind not in CATALOG and kind != "history"
    ]
    found += _problems_of_history(limits["history"]) if "history" in limits else []
    for kind in KINDS:
        found += _problems_of(kind, limits.get(kind))
    return found


def _problems_of_history(days: Any) -> list[str]:
    if not isinstance(days, Mapping) or set(days) != {"days"}:
        return ["history: give days"]
    return [] if _in_range(days["days"]) else [f"history: use {MIN_DAYS} to {MAX_DAYS} days"]


def _in_range(days: Any) -> bool:
    return type(days) is int and MIN_DAYS <= days <= MAX_DAYS


def _problems_of(kind: Kind, days: Any) -> list[str]:
    if not isinstance(days, Mapping):
        return [f"{kind}: give days for {', '.join(TIERS)}"]
    found = [f"{kind} {tier}: there is no such tier" for tier in days if tier not in TIERS]
    found += [
        f"{kind} {tier}: use {MIN_DAYS} to {MAX_DAYS} days"
        for tier in TIERS
        if not _in_range(days.get(tier))
    ]
    if found:
        return found
    return [
        f"{kind} {fine}: {days[fine]} days are longer than the {days[coarse]} days of {coarse};"
        " keep a coarser tier at least as long as a finer one"
        for fine, coarse in pairwise(TIERS)
        if days[fine] > days[coarse]
    ]


def complete(
    limits: Mapping[Any, Any], otherwise: Mapping[Any, Any] | None = None
) -> dict[LimitName, dict[str, int]]:
    """Return limits with all current names; missing kinds and tiers get the defaults.

    For rows that were stored before a name existed, and for changes that leave out the history.

    Args:
        limits: the limits.
        otherwise: limits of which the history is taken if ``limits`` has none. If these have none
            either, it is kept for :data:`DEFAULT_HISTORY_DAYS`, or as long as the longest tier.
    """

    def days(name: LimitName, part: str) -> int:
        return int(limits.get(name, {}).get(part, DEFAULT_DAYS[part]))

    longest_tier = max(days(kind, tier) for kind, tier in cells())
    usual = {"days": max(DEFAULT_HISTORY_DAYS, longest_tier)}
    kept = limits.get("history") or (otherwise or {}).get("history") or usual
    return _for_every_limit(
        lambda name, part: int(kept["days"]) if name == "history" else days(name, part)
    )


def longest(several: Iterable[Limits]) -> dict[LimitName, dict[str, int]]:
    """Return the longest limit of each name; ``several`` holds at least one."""
    every = list(several)
    return _for_every_limit(lambda name, part: max(one[name][part] for one in every))


def bound(now: int, days: int) -> int:
    """Return the Unix time before which a tier of ``days`` is deleted: a midnight, UTC."""
    return max(0, (now - days * DAY) // DAY * DAY)


def bounds(limits: Limits, now: int) -> dict[LimitName, dict[str, int]]:
    """Return :func:`bound` for every limit."""
    return _for_every_limit(lambda name, part: bound(now, limits[name][part]))


def horizons(gone: Horizons | None, more: Horizons) -> dict[LimitName, dict[str, int]]:
    """Return up to when each is deleted, after one more deletion up to ``more``."""
    before = gone or {}
    return _for_every_limit(
        lambda name, part: max(before.get(name, {}).get(part, 0), more[name][part])
    )


def _for_every_limit(value: Callable[[LimitName, str], int]) -> dict[LimitName, dict[str, int]]:
    found: dict[LimitName, dict[str, int]] = {}
    for name, part in every_limit():
        found.setdefault(name, {})[part] = value(name, part)
    return found
