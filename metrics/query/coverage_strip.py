"""Turn ledger windows into gaps of a chart and segments of the coverage strip. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metrics.query.answers import Gap, Segment
from metrics.series.windows import Window


def gaps(
    windows: Iterable[Window], start: int, end: int, *, head: int | None, until: int
) -> list[Gap]:
    """Return the gaps within ``[start, end)``, neighbours of one reason joined.

    Args:
        windows: ledger windows of state gap or lost, ascending.
        start: start of the range in Unix seconds.
        end: end of the range in Unix seconds, exclusive; not after now.
        head: end of the newest data in Unix seconds; None if there is none.
        until: end of the data that can exist. The time after ``head`` was not requested yet.
    """
    found: list[Gap] = []
    for window in windows:
        gap = Gap(
            max(window.start, start),
            min(window.end, end),
            window.state,
            window.reason,
            window.detail,
        )
        before = found[-1] if found else None
        if gap.start >= gap.end:
            continue
        if (
            before
            and before.end >= gap.start
            and (before.state, before.reason) == (gap.state, gap.reason)
        ):
            found[-1] = Gap(before.start, gap.end, gap.state, gap.reason, gap.detail)
        else:
            found.append(gap)
    known = max([start, *([head] if head is not None else []), *(gap.end for gap in found)])
    if head is not None and known < min(end, until):
        found.append(Gap(known, min(end, until), "gap", "pending", ""))
    return found


def with_damage(
    gaps: Sequence[Gap], damaged: Iterable[tuple[int, int]], first: int, last: int
) -> tuple[Gap, ...]:
    """Return the gaps together with the unreadable spans outside of them, ascending.

    Args:
        gaps: gaps, ascending, without overlaps.
        damaged: spans of damaged data, ascending.
        first: start of the series' data in Unix seconds.
        last: end of the series' data in Unix seconds.
    """
    found = list(gaps)
    for start, end in damaged:
        at, stop = max(start, first), min(end, last)
        for gap in gaps:
            if at < min(gap.start, stop):
                found.append(Gap(at, min(gap.start, stop), "lost", "store_damaged", ""))
            at = max(at, gap.end)
        if at < stop:
            found.append(Gap(at, stop, "lost", "store_damaged", ""))
    return tuple(sorted(found, key=lambda gap: gap.start))


def segments(
    windows: Sequence[Window], start: int, end: int, *, head: int | None, until: int
) -> tuple[Segment, ...]:
    """Return segments that cover ``[start, end)`` without gaps or overlaps.

    Args:
        windows: all ledger windows that overlap the range, ascending.
        start: start of the range in Unix seconds.
        end: end of the range in Unix seconds, exclusive; not after now.
        head: end of the newest data in Unix seconds; None if there is none.
        until: end of the data that can exist: newer data is not expected yet.
    """
    found: list[Segment] = []
    at = start
    for window in windows:
        stop = min(window.end, end)
        if window.start > at:
            _append(found, _unknown(at, min(window.start, end), head, until))
            at = max(at, min(window.start, end))
        if stop > at:
            _append(found, _of_window(window, at, stop))
            at = stop
    if at < end:
        _append(found, _unknown(at, end, head, until))
    return tuple(found)


def _unknown(start: int, end: int, head: int | None, until: int) -> Segment:
    """Return a span without a window: not requested yet, or before the first window."""
    pending = head is not None and start >= head
    return Segment(
        start, end, "pending" if pending else "none", "pending" if pending else "", "", 0,
        max(0, min(end, until) - start) // 60 if pending else 0, filled=False,
    )  # fmt: skip


def _of_window(window: Window, start: int, end: int) -> Segment:
    """Return a window's part within the range, with a proportional share of its minutes."""
    share = (end - start) / (window.end - window.start)
    return Segment(
        start, end, window.state, window.reason, window.detail, round(window.got * share),
        round(window.expected * share), filled=window.filled_at is not None,
    )  # fmt: skip


def _append(found: list[Segment], new: Segment) -> None:
    """Append a segment, or extend the previous one if it is the same."""
    if new.start >= new.end:
        return
    if found:
        last = found[-1]
        same = (last.state, last.reason, last.filled) == (new.state, new.reason, new.filled)
        if same and last.end == new.start:
            found[-1] = Segment(
                last.start, new.end, last.state, last.reason, new.detail or last.detail,
                last.got + new.got, last.expected + new.expected, filled=last.filled,
            )  # fmt: skip
            return
    found.append(new)
