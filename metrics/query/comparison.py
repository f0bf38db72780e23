"""Two ranges against each other: this week against the last. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metrics.query.answers import RangeAnswer
from metrics.series.windows import DAY

OFFSETS: dict[str, int] = {"day": DAY, "week": 7 * DAY, "month": 28 * DAY}
"""How much earlier the range lies that another is compared with. A month is four weeks, so that
weekdays meet their own kind."""

TITLES: dict[str, str] = {
    "day": "day before", "week": "week before", "month": "4 weeks before",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """How the mean of a range differs from that of a former one.

    Both means are over the same moments: those that have data in both ranges, a bucket counting as
    much as the later range has minutes in it. ``share`` says how much of the later range's minutes
    that is, 0..1; without any all else is None. ``ratio`` is 0.1 for
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


def former_bucket(at: int, step: int, former_step: int, offset: int) -> int:
    """Return the start of that former bucket in which the middle of a later one's own time lies.

    Args:
        at: start of the later bucket.
        step: its width in seconds.
        former_step: the former buckets' width, which may be wider: finer ones are not kept so long.
        offset: how much earlier the former range lies, in seconds.
    """
    then = at + step // 2 - offset
    return then - then % former_step


def change_of(
    t: Sequence[int],
    mean: Sequence[float],
    samples: Sequence[int],
    step: int,
    former_t: Sequence[int],
    former_mean: Sequence[float],
    former_step: int,
    offset: int,
) -> Change:
    """Return how a series of means differs from a former one, ``offset`` seconds before.

    Each bucket is compared with its :func:`former_bucket`. ``samples`` are the minutes in each: an
    open bucket, or one beside a gap, weighs less than a whole one.
    """
    known = {at - at % former_step: value for at, value in zip(former_t, former_mean, strict=True)}
    pairs = []
    for at, value, minutes in zip(t, mean, samples, strict=True):
        former = known.get(former_bucket(at, step, former_step, offset))
        if former is not None:
            pairs.append((value, former, minutes))
    both = sum(minutes for _, _, minutes in pairs)
    if not both:
        return Change(None, None, None, 0.0)
    now = sum(value * minutes for value, _, minutes in pairs) / both
    before = sum(former * minutes for _, former, minutes in pairs) / both
    ratio = (now - before) / abs(before) if before else None
    return Change(now, before, ratio, both / sum(samples))


def compared(answer: RangeAnswer, former: RangeAnswer, offset: int) -> Comparison:
    """Return the former answer beside the later one."""
    change = change_of(
        answer.t, answer.mean, answer.samples, answer.step,
        former.t, former.mean, former.step, offset,
    )  # fmt: skip
    return Comparison(offset, former, change)
