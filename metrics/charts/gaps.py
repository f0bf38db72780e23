"""The part of each gap in which a chart has no value: what is shaded, and says why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from metrics.query.answers import Gap


def without_values(gaps: Sequence[Gap], samples: Mapping[int, int], step: int) -> list[Gap]:
    """Return the gaps cut down to the minutes that have no value, neighbours joined.

    A window of the ledger is a gap as soon as one of its minutes is missing; the others may be
    there. Of a bucket wider than a minute only the number of its minutes is known: its gaps stay
    if they fit beside those.

    Args:
        gaps: gaps of whole minutes, ascending.
        samples: start of a bucket in Unix seconds -> how many of its minutes have a value.
        step: width of a bucket in seconds.
    """
    missing: Counter[int] = Counter()
    for gap in gaps:
        for part in _by_bucket(gap, step):
            missing[_bucket(part, step)] += (part.end - part.start) // 60
    found: list[Gap] = []
    for gap in gaps:
        begin = len(found)
        for part in _by_bucket(gap, step):
            bucket = _bucket(part, step)
            if missing[bucket] > step // 60 - samples.get(bucket, 0):
                continue
            if len(found) > begin and found[-1].end == part.start:
                found[-1] = replace(part, start=found[-1].start)
            else:
                found.append(part)
    return found


def _bucket(part: Gap, step: int) -> int:
    return part.start - part.start % step


def _by_bucket(gap: Gap, step: int) -> Iterator[Gap]:
    """Yield a gap in pieces that do not reach over a bucket's end."""
    at = gap.start
    while at < gap.end:
        stop = min(at - at % step + step, gap.end)
        yield replace(gap, start=at, end=stop)
        at = stop
