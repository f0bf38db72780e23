"""Comparison of two ranges: this week with the last. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metrics.query.answers import RangeAnswer
from metrics.series.windows import DAY

OFFSETS: dict[str, int] = {"day": DAY, "week": 7 * DAY, "month": 28 * DAY}
"""How much earlier the range to compare with is, in seconds. A month is four weeks, so that
weekdays are compared with the same weekdays."""

TITLES: dict[str, str] = {
    "day": "day before", "week": "week before", "month": "4 weeks before",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """How the mean of a range differs from that of an earlier one.

    Both means are over the buckets that have data in both ranges, weighted by the later range's
    minutes. ``share`` is the part of the later range's minutes that this covers, 0..1; if it is 0,
    all else is None. ``ratio`` is 0.1 for a tenth more, and None where the former mean is 0.
    """

    mean: float | None
    former_mean: float | None
    ratio: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """An earlier range to compare with. Its times are its own, ``offset`` seconds earlier."""

    offset: int  # seconds, > 0
    former: RangeAnswer
    change: Change


def former_bucket(at: int, step: int, former_step: int, offset: int) -> int:
    """Return the start of the former bucket that contains the middle of a later one, shifted.

    Args:
        at: start of the later bucket in Unix seconds.
        step: width of the later bucket in seconds.
        former_step: width of the former buckets in seconds, which may be larger, because finer
            buckets are not kept as long.
        offset: how much earlier the former range is, in seconds.
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
    """Return how a series of means differs from a former one, ``offset`` seconds earlier.

    Each bucket is compared with its :func:`former_bucket`. ``samples`` are the minutes in each: an
    open bucket, or one next to a gap, has less weight than a full one.
    """
    known = {at - at % former_step: value for at, value in zip(former_t, former_mean, strict=True)}
    pairs = []
    for at, value, minutes in zip(t, mean, samples, strict=True):
        former = known.get(former_bucket(at, step, former_step, offset))
        if former is not None:
            pairs.append((value, former, minutes))
    total = sum(minutes for _, _, minutes in pairs)
    if not total:
        return Change(None, None, None, 0.0)
    now = sum(value * minutes for value, _, minutes in pairs) / total
    before = sum(former * minutes for _, former, minutes in pairs) / total
    ratio = (now - before) / abs(before) if before else None
    return Change(now, before, ratio, total / sum(samples))


def compared(answer: RangeAnswer, former: RangeAnswer, offset: int) -> Comparison:
    """Return the comparison of an answer with a former one."""
    change = change_of(
        answer.t, answer.mean, answer.samples, answer.step,
        former.t, former.mean, former.step, offset,
    )  # fmt: skip
    return Comparison(offset, former, change)
