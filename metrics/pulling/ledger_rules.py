"""The gap ledger: what became of every window, and why something is missing. Pure.

The time of a stream is cut into buckets of ten minutes, aligned to the clock. From the stream's
first minute to its head every minute lies in exactly one window of the ledger; the first and the
last window may be shorter than a bucket. A window is

``done``  every minute is stored;
``lost``  the source has answered for every minute, but lacks some: see the reason;
``gap``   some minutes are still missing; they are requested until the window is done or lost.

The watermark is the end of the unbroken run of windows that are done or lost. While pulls fail,
the missed minutes are recorded as a gap with the failure's reason. Minutes that no pull requested,
because the centre itself was down, have no window until the next good pull records them.

Times are Unix seconds, minute aligned; ranges exclude their end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise

from metrics.connections.source_limits import FIRST_REACH
from metrics.pulling.losses import Coverage, why_lost
from metrics.series.windows import BUCKET, MINUTE, Reason, Window, floor_bucket, floor_minute

LIVE_REACH = 600  # a live pull goes back no further than this, rounded to a bucket's start
STORE_ERROR = "store_error"  # code of a failure that is ours, not the cluster's
GIVE_UP_ATTEMPTS = 10  # without an acceptable answer for what the source no longer keeps

REASONS: Mapping[str, Reason] = {
    "tunnel_down": "tunnel_down",
    "gateway_down": "centre_down",
    "service_down": "service_down",
    "consent_off": "consent_off",
    "bad_response": "bad_response",
    "source_config": "centre_down",
}
"""The ledger's reason for each error code of a pull (:mod:`opscenter.core.errors`)."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What is known about a time without good pulls.

    Attributes:
        last_attempt_at: Unix time at which the centre last tried, or found the tunnel down; None
            for never.
        error_code: error code of that attempt; "" if it was good.
        tunnel_up: spans (since, until) in Unix seconds in which the tunnel was up; until None = it
            still is.
        enrolled_at: Unix time at which the cluster was enrolled; None if not known.
    """

    last_attempt_at: float | None
    error_code: str
    tunnel_up: Sequence[tuple[float, float | None]] = ()
    enrolled_at: float | None = None


def live_range(head: int | None, now: float, overlap_seconds: int = 0) -> tuple[int, int]:
    """Return the range of a live pull: from the head to the last closed minute.

    After an outage it starts at a bucket's start 10 to 20 minutes ago, so that the gap consists of
    complete buckets and the live view is back with the first answer. Within the minute of the
    previous pull, that minute is requested again; while the head is in the future, because a clock
    went back, so are the last 10 to 20, because a late pull would leave one out.

    Args:
        head: end of the newest data in Unix seconds; None before the first.
        now: current Unix time in seconds.
        overlap_seconds: how long the source may still change a minute that it has served; this much
            before the head is requested again.

    Returns:
        ``(start, end)``; start < end.
    """
    end = floor_minute(now)
    start = floor_bucket(end - LIVE_REACH)
    if head is not None and head <= end:
        start = max(start, head - overlap_seconds)
    return min(start, end - MINUTE), end


def buckets(start: int, end: int) -> list[tuple[int, int]]:
    """Cut ``[start, end)`` at the borders of buckets; [] if it is empty."""
    edges = [start, *range(floor_bucket(start) + BUCKET, end, BUCKET), end]
    return [(a, b) for a, b in pairwise(edges) if a < b]


def unaccounted(windows: Iterable[Window], start: int, end: int) -> int:
    """Return where the first bucket's part of ``[start, end)`` begins that no window fully covers.

    Returns ``end`` if windows cover all of it.
    """
    known = _by_bucket(windows)
    for bucket_start, bucket_end in buckets(start, end):
        window = known.get(floor_bucket(bucket_start))
        if window is None or window.end < bucket_end:
            return bucket_start
    return end


def missed(
    windows: Iterable[Window],
    start: int,
    end: int,
    *,
    stored: Set[int],
    reason: Reason,
    detail: str,
) -> list[Window]:
    """Return the windows to write because an attempt to pull ``[start, end)`` failed.

    A bucket that already has a window becomes one gap, because a part of it is missing now. A gap
    keeps the reason of its first failure, except that a tunnel found dead explains a service that
    did not answer in the minute before: the pull that got no answer could not distinguish the two.

    Args:
        windows: ledger windows that overlap the buckets of the range.
        start: first missed minute in Unix seconds.
        end: end of the last closed minute in Unix seconds, exclusive.
        stored: starts of the stored minutes, at least of the same buckets.
        reason: the failure's reason.
        detail: the reason in words, for display.
    """
    known = _by_bucket(windows)
    put = []
    for bucket_start, bucket_end in buckets(start, end):
        old = known.get(floor_bucket(bucket_start))
        if old is None:
            put.append(_gap(bucket_start, bucket_end, stored, 1, reason, detail))
        elif old.end < bucket_end:
            why = (reason, detail)
            if old.state == "gap" and old.reason != "pending" and not _explains(reason, old):
                why = (old.reason, old.detail)
            put.append(_gap(old.start, bucket_end, stored, old.attempts + 1, *why))
    return put


def unrecorded_gaps(
    windows: Iterable[Window], start: int, end: int, *, stored: Set[int], outage: Outage
) -> list[Window]:
    """Return gap windows for the part of ``[start, end)`` that no window accounts for.

    Failed pulls have already written their windows, so what is left are minutes that no pull
    requested; and, at the very first pull, the past.

    Args:
        windows: ledger windows that overlap the buckets of the range.
        start: the head, or the stream's first minute, in Unix seconds.
        end: end of the range in Unix seconds, exclusive; the start of a bucket.
        stored: starts of the stored minutes, at least of the same buckets.
        outage: the facts from which the reasons follow.
    """
    known = _by_bucket(windows)
    put = []
    for bucket_start, bucket_end in buckets(start, end):
        old = known.get(floor_bucket(bucket_start))
        if old is None:
            why = why_missing(bucket_start, bucket_end, outage)
            put.append(_gap(bucket_start, bucket_end, stored, 0, *why))
        elif old.end < bucket_end:
            why = why_missing(max(old.end, bucket_start), bucket_end, outage)
            if old.state == "gap" and old.reason != "pending":
                why = (old.reason, old.detail)
            put.append(_gap(old.start, bucket_end, stored, old.attempts, *why))
    return put


def why_missing(start: int, end: int, outage: Outage) -> tuple[Reason, str]:
    """Return why ``[start, end)`` was not pulled in time: the reason, and its words for display."""
    if outage.enrolled_at is not None and end <= outage.enrolled_at:
        return "not_enrolled", "recorded before this cluster joined"
    if outage.last_attempt_at is None:
        return "pending", "from before the first pull"
    if start < outage.last_attempt_at:
        up = sum(
            max(0.0, min(end, end if until is None else until) - max(start, since))
            for since, until in outage.tunnel_up
        )
        if up < (end - start) / 2:
            return "tunnel_down", "the tunnel was down"
        if outage.error_code in REASONS:
            return REASONS[outage.error_code], "pulls failed at the time"
        if outage.error_code == STORE_ERROR:
            return "centre_down", "Ops Center could not store it at the time"
    return "centre_down", "Ops Center did not ask: no pull was tried in this time"


def answered(
    windows: Iterable[Window],
    coverage: Coverage,
    *,
    first: int | None,
    head: int | None,
    stored: Set[int],
    now: float,
    live: bool,
) -> list[Window]:
    """Return the windows to write because the source answered for a range.

    Args:
        windows: ledger windows that overlap the buckets of the range.
        coverage: what the source answered for.
        first: the stream's first minute in Unix seconds if this is its first answer, else None.
        head: the stream's head before the answer in Unix seconds, None for none; a bucket before it
            without a window is before the stream's first minute, which a live pull's overlap may
            include, and gets no window.
        stored: starts of all stored minutes of the range's buckets, including this answer.
        now: current Unix time in seconds.
        live: whether the range ends at the head; then the last window ends with the answer, and
            a gap after it is left to the next live pull. False for filling gaps.
    """
    known = _by_bucket(windows)
    begin = coverage.start if first is None else max(first, coverage.start)
    put = []
    for bucket_start, bucket_end in buckets(begin, coverage.end):
        old = known.get(floor_bucket(bucket_start))
        if old is not None:
            end = bucket_end if live and old.state == "gap" else max(bucket_end, old.end)
            put.append(_settle(old, end, coverage, stored, now))
            continue
        if head is not None and bucket_start < head:
            continue
        start = bucket_start if first is not None else floor_bucket(bucket_start)
        blank = Window(start, start, "done", 0, 0, 0, "", "", None)
        put.append(_settle(blank, bucket_end, coverage, stored, now))
    return put


def refused(
    window: Window,
    now: float,
    *,
    reason: Reason | None,
    detail: str,
    reach: int | None = FIRST_REACH,
) -> Window:
    """Return a gap's window after an attempt to fill it that got no data.

    The gap keeps its reason. A gap that the source can no longer have and that failed
    :data:`GIVE_UP_ATTEMPTS` times is lost, so that nothing is requested forever.

    Args:
        window: the gap.
        now: current Unix time in seconds.
        reach: how long the source keeps anything, in seconds; None if not known.
        reason: the attempt's failure; None if the source answered, but not for this range.
        detail: the failure in words, for display.
    """
    attempts = window.attempts + 1
    if reach is not None and window.end < now - reach and attempts >= GIVE_UP_ATTEMPTS:
        text = f"given up after {attempts} attempts: {detail}; before: {window.detail}"
        why: Reason = reason or "spool_expired"
        return replace(window, state="lost", attempts=attempts, reason=why, detail=text)
    if window.reason == "pending" and reason is not None:
        return replace(window, attempts=attempts, reason=reason, detail=detail)
    return replace(window, attempts=attempts)


def advance(windows: Iterable[Window], watermark: int) -> int:
    """Return the end of the unbroken done and lost windows after ``watermark``.

    Args:
        windows: ledger windows from the watermark on, in any order.
        watermark: the current watermark, or the stream's first minute, in Unix seconds; the result
            is never less.
    """
    for window in sorted(windows, key=_start_of):
        if window.end <= watermark:
            continue
        if window.start > watermark or window.state == "gap":
            break
        watermark = window.end
    return watermark


def _explains(reason: Reason, old: Window) -> bool:
    """Return whether ``reason`` is a better one for a gap that began with another failure."""
    just_begun = old.expected - old.got <= 1
    return reason == "tunnel_down" and old.reason == "service_down" and just_begun


def _settle(old: Window, end: int, coverage: Coverage, stored: Set[int], now: float) -> Window:
    """Return a window after an answer; an empty ``old`` one is new."""
    settled = old.start if old.state == "gap" else old.end
    # A done window stays done: single minutes cannot be recognised in wider values.
    unsure_from = old.end if old.state == "done" else old.start
    absent = [minute for minute in range(unsure_from, end, MINUTE) if minute not in stored]
    expected = (end - old.start) // MINUTE
    new = replace(
        old, end=end, got=expected - len(absent), expected=expected, attempts=old.attempts + 1,
        resolution=max(old.resolution, coverage.resolution),
    )  # fmt: skip
    if any(m >= settled and not coverage.start <= m < coverage.end for m in absent):
        return replace(new, state="gap", reason=old.reason or "pending")
    if not absent:
        filled_at = old.filled_at if old.state == "done" else int(now)
        return replace(new, state="done", filled_at=filled_at)
    same = old.state == "lost" and len(absent) == old.expected - old.got
    if same and coverage.failed.keys().isdisjoint(absent):
        return new
    reason, detail = why_lost(absent, coverage, old, now)
    if old.state == "gap" and old.detail:
        detail = f"{detail}; before: {old.detail}"
    return replace(new, state="lost", reason=reason, detail=detail, filled_at=None)


def _gap(
    start: int, end: int, stored: Set[int], attempts: int, reason: Reason, detail: str
) -> Window:
    got = sum(1 for minute in range(start, end, MINUTE) if minute in stored)
    expected = (end - start) // MINUTE
    return Window(start, end, "gap", got, expected, attempts, reason, detail, None)


def _by_bucket(windows: Iterable[Window]) -> dict[int, Window]:
    return {floor_bucket(window.start): window for window in windows}


def _start_of(window: Window) -> int:
    return window.start
