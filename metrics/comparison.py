"""Two ranges against each other: this week against the last. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metrics.answers import RangeAnswer

DAY = 86_400
OFFSETS: dict[str, int] = {"day": DAY, "week": 7 * DAY, "month": 28 * DAY}
"""How much earlier the range lies that another is compared with. A month is four weeks, so that
weekdays meet their own kind."""

TITLES: dict[str, str] = {
    "day": "day before", "week": "week before", "month": "4 weeks before",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """How the mean of a range differs from that of a former one.

    Both means are over the same moments: those that have data in both ranges. ``share`` says how
    much of the later range's data that is, 0..1; without any all else is None. ``ratio`` is 0.1 for
    a tenth more, and None where the former mean is 0.
    """

    mean: float | None
    former_mean: float | None
    ratio: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A former range beside another. Its times are as they were, ``offset`` seconds earlier."""

    offset: int  # seconds, > 0
    former: RangeAnswer
    change: Change


def change_of(
    t: Sequence[int],
    mean: Sequence[float],
    step: int,
    former_t: Sequence[int],
    former_mean: Sequence[float],
    former_step: int,
    offset: int,
) -> Change:
    """Return how a series of means differs from a former one, ``offset`` seconds before.

    Each bucket is compared with that former bucket in which the middle of its own time lies; the
    former ones may be wider, where finer ones are no longer kept.
    """
    if not t:
        return Change(None, None, None, 0.0)
    known = {at - at % former_step: value for at, value in zip(former_t, former_mean, strict=True)}
    pairs = []
    for at, value in zip(t, mean, strict=True):
        then = at + step // 2 - offset
        former = known.get(then - then % former_step)
        if former is not None:
            pairs.append((value, former))
    if not pairs:
        return Change(None, None, None, 0.0)
    now = sum(value for value, _ in pairs) / len(pairs)
    before = sum(value for _, value in pairs) / len(pairs)
    ratio = (now - before) / abs(before) if before else None
    return Change(now, before, ratio, len(pairs) / len(t))


def compared(answer: RangeAnswer, former: RangeAnswer, offset: int) -> Comparison:
    """Return the former answer beside the later one."""
    change = change_of(
        answer.t, answer.mean, answer.step, former.t, former.mean, former.step, offset
    )
    return Comparison(offset, former, change)
