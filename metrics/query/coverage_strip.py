"""Turn ledger windows into gaps of a chart and segments of the coverage strip. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace

from metrics.query.answers import Gap, Segment
from metrics.series.windows import ALSO, MOST_CAUSES, Window

Stored = Callable[[int, int], Set[int]]
"""Returns the starts of the stored minutes of a range."""

_COUNTS = re.compile(r" in [\d,]+ of [\d,]+ minutes|^[\d,]+ of [\d,]+ minutes: ")


def gaps(
    windows: Iterable[Window],
    start: int,
    end: int,
    *,
    head: int | None,
    until: int,
    stored: Stored | None = None,
) -> list[Gap]:
    """Return the gaps within ``[start, end)``, neighbours of one reason joined.

    Args:
        windows: ledger windows of state gap or lost, ascending.
        start: start of the range in Unix seconds.
        end: end of the range in Unix seconds, exclusive; not after now.
        head: end of the newest data in Unix seconds; None if there is none.
        until: end of the data that can exist. The time after ``head`` was not requested yet.
        stored: counts the minutes of a window that the range cuts; None for its share.
    """
    found: list[Gap] = []
    for window in windows:
        since, stop = max(window.start, start), min(window.end, end)
        if since >= stop:
            continue
        got, expected = _counts(window, since, stop, stored)
        gap = Gap(since, stop, window.state, window.reason, causes((window.detail,)), got, expected)
        before = found[-1] if found else None
        if (
            before
            and before.end >= gap.start
            and (before.state, before.reason) == (gap.state, gap.reason)
        ):
            found[-1] = replace(
                before,
                end=gap.end,
                detail=causes((before.detail, gap.detail)),
                got=before.got + gap.got,
                expected=before.expected + gap.expected,
            )
        else:
            found.append(gap)
    known = max([start, *([head] if head is not None else []), *(gap.end for gap in found)])
    stop = min(end, until)
    if head is not None and known < stop:
        found.append(Gap(known, stop, "gap", "pending", "", 0, (stop - known) // 60))
    return [replace(gap, detail=_worded(gap)) for gap in found]


def causes(details: Iterable[str]) -> str:
    """Return the causes that details of windows name, each once, without numbers of minutes.

    A window's own numbers would be false for what several windows are joined to.
    """
    parts = [part for detail in details for part in _COUNTS.sub("", detail).split(ALSO) if part]
    return ALSO.join(list(dict.fromkeys(parts))[:MOST_CAUSES])


def _worded(gap: Gap) -> str:
    missing = gap.expected - gap.got
    minutes = "minute" if gap.expected == 1 else "minutes"
    text = f"{missing:,} of {gap.expected:,} {minutes} {'is' if missing == 1 else 'are'} missing"
    return f"{text}: {gap.detail}" if gap.detail else text


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
                found.append(_damage(at, min(gap.start, stop)))
            at = max(at, gap.end)
        if at < stop:
            found.append(_damage(at, stop))
    return tuple(sorted(found, key=lambda gap: gap.start))


def _damage(start: int, end: int) -> Gap:
    return Gap(start, end, "lost", "store_damaged", "", 0, (end - start) // 60)


def segments(
    windows: Sequence[Window],
    start: int,
    end: int,
    *,
    head: int | None,
    until: int,
    stored: Stored | None = None,
) -> tuple[Segment, ...]:
    """Return segments that cover ``[start, end)`` without gaps or overlaps.

    Args:
        windows: all ledger windows that overlap the range, ascending.
        start: start of the range in Unix seconds.
        end: end of the range in Unix seconds, exclusive; not after now.
        head: end of the newest data in Unix seconds; None if there is none.
        until: end of the data that can exist: newer data is not expected yet.
        stored: counts the minutes of a window that the range cuts; None for its share.
    """
    found: list[Segment] = []
    at = start
    for window in windows:
        stop = min(window.end, end)
        if window.start > at:
            _append(found, _unknown(at, min(window.start, end), head, until))
            at = max(at, min(window.start, end))
        if stop > at:
            _append(found, _of_window(window, at, stop, stored))
            at = stop
    if at < end:
        _append(found, _unknown(at, end, head, until))
    return tuple(found)


def minutes_due(segments: Sequence[Segment], *, born: int | None, gone: int | None) -> int:
    """Return how many minutes of a strip one series could have if none were missed.

    The one place that says so: strips, charts, tables, lists and files all use it.

    Args:
        segments: the segments of :func:`segments`.
        born: first minute of the series in Unix seconds; None if it was never seen: it has none.
        gone: end of the series' last minute in Unix seconds; None if it still exists.
    """
    first = first_due(segments, born)
    if first is None:
        return 0
    total = 0
    for segment in segments:
        since = max(segment.start, first)
        until = segment.end if gone is None else min(segment.end, gone)
        share = max(0, until - since) / (segment.end - segment.start)
        total += round(segment.expected * share)
    return total


def first_due(segments: Sequence[Segment], born: int | None) -> int | None:
    """Return the first minute that is due of a series; None if none is.

    A series may have lived in the gap right before its first minute: those minutes are due.
    """
    if born is None:
        return None
    for segment in reversed(segments):
        if segment.state in ("gap", "lost") and segment.start < born <= segment.end:
            born = segment.start
    return born


def _unknown(start: int, end: int, head: int | None, until: int) -> Segment:
    """Return a span without a window: not requested yet, or before the first window."""
    pending = head is not None and start >= head
    return Segment(
        start, end, "pending" if pending else "none", "pending" if pending else "", "", 0,
        max(0, min(end, until) - start) // 60 if pending else 0, filled=False,
    )  # fmt: skip


def _of_window(window: Window, start: int, end: int, stored: Stored | None) -> Segment:
    """Return a window's part within the range, with its minutes."""
    got, expected = _counts(window, start, end, stored)
    return Segment(
        start, end, window.state, window.reason, causes((window.detail,)), got, expected,
        filled=window.filled_at is not None,
    )  # fmt: skip


def _counts(window: Window, start: int, end: int, stored: Stored | None) -> tuple[int, int]:
    """Return how many minutes of a window's part are stored, and how many there are."""
    if (start, end) == (window.start, window.end):
        return window.got, window.expected
    share = (end - start) / (window.end - window.start)
    expected = round(window.expected * share)
    if window.got in (0, window.expected) or stored is None:
        return round(window.got * share), expected
    found = stored(window.start, window.end)
    if len(found) != window.got:  # stored in wider values, or no longer as minutes
        return round(window.got * share), expected
    return sum(1 for minute in found if start <= minute < end), expected


def _append(found: list[Segment], new: Segment) -> None:
    """Append a segment, or extend the previous one if it is the same."""
    if new.start >= new.end:
        return
    if found:
        last = found[-1]
        same = (last.state, last.reason, last.filled) == (new.state, new.reason, new.filled)
        if same and last.end == new.start:
            found[-1] = Segment(
                last.start, new.end, last.state, last.reason, causes((last.detail, new.detail)),
                last.got + new.got, last.expected + new.expected, filled=last.filled,
            )  # fmt: skip
            return
    found.append(new)
