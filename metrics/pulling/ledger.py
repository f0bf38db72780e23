"""Write answers and failures of a stream to the store: rows, ledger windows and watermark at once.

The rules are :mod:`metrics.pulling.ledger_rules`; this module reads their input and writes their
result. Live pulls and the filling of gaps both change a stream's ledger, so each change is read and
written under one short lease. Even without it nothing would be lost: a window written from old
knowledge is one gap too many, which is requested again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from uuid import UUID

from django.db.models import Q

from clusters.models import Cluster, TunnelSession
from metrics.connections.config import source_name
from metrics.connections.source_limits import SourceLimits
from metrics.models import MetricSource, PullSchedule
from metrics.pulling import ledger_rules
from metrics.pulling.losses import Coverage, spans_left_out
from metrics.pulling.requests import Request
from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import (
    BUCKET,
    DAY,
    MINUTE,
    Position,
    Reason,
    Window,
    floor_bucket,
    floor_minute,
    utc_datetime,
)
from metrics.stores.writer import Batch, MetricWriter
from opscenter.core import leases
from opscenter.core.errors import ClusterError, OpsCenterError
from opscenter.core.text import one_line

logger = logging.getLogger(__name__)

CLUSTER_KEY = SeriesKey("cluster", "", "")
LOCK_SECONDS = 60
LOCK_WAIT_SECONDS = 20
MAX_DETAIL = 300
# What a source measures: not how many nodes there are, and not etcd, which is read in addition.
_MEASURED = tuple(
    name
    for name in FIELD_NAMES["cluster"]
    if name != "nodes_total" and not name.startswith("etcd_")
)
_COMMON = ("mem_ws", "nodes_ready")  # nearly every minute has one of them


class SourceReplacedError(OpsCenterError):
    """Another source was set while this one answered; its answer is no longer wanted."""

    code = "source_replaced"
    http_status = 409


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of one cluster, in the store."""

    store: MetricWriter
    cluster: UUID
    name: str

    def position(self) -> Position:
        """Return the stream's position."""
        return self.store.position(self.cluster, self.name)

    def windows(self, start: int, end: int, *states: str) -> list[Window]:
        """Return the windows that overlap ``[start, end)``; only of ``states`` if given."""
        if end <= start:
            return []
        return self.store.windows(self.cluster, self.name, start, end, states=states)

    def open_gaps(self) -> list[Window]:
        """Return every window in state gap between the watermark and the head, ascending."""
        position = self.position()
        if position.watermark is None or position.head is None:
            return []
        return self.windows(position.watermark, position.head, "gap")

    def stored(self, start: int, end: int) -> set[int]:
        """Return the starts of the minutes of ``[start, end)`` of which a value is stored.

        A minute with nodes of which nothing is known does not count.
        """
        named = self._minutes(("nodes_total", *_COMMON), start, end)
        found = set[int]().union(*(named[field] for field in _COMMON))
        if not named["nodes_total"] <= found:
            found = found.union(*self._minutes(_MEASURED, start, end).values())
        if found:
            return found
        # A source may have pods but no nodes.
        pods = self.store.read_many(self.cluster, "pod", "mem_ws", "1m", start, end)
        return {minute for column in pods.values() for minute in column.t}

    def _minutes(self, fields: Sequence[str], start: int, end: int) -> dict[str, set[int]]:
        found = self.store.read_fields(self.cluster, CLUSTER_KEY, fields, "1m", start, end)
        return {field: set(columns.t) for field, columns in found.items()}


def store_live(
    stream: Stream,
    answer: SourceAnswer,
    now: float,
    outage: Callable[[int, int], ledger_rules.Outage],
    limits: SourceLimits,
) -> bool:
    """Write the answer to a live pull; return whether gaps are open before the head.

    Args:
        stream: the cluster's stream.
        answer: the source's answer.
        now: our clock in Unix seconds.
        outage: returns the facts about a range that no pull requested.
        limits: the source's limits.

    Raises:
        StoreError: nothing was written.
        LeaseTimeoutError: another writer held the ledger too long; nothing was written.
        SourceReplacedError: nothing was written.
    """
    with locked(stream):
        check_source(stream, limits)
        position = stream.position()
        first = _first_minute(position, answer, now, limits)
        begin = position.head if first is None else first
        if begin is None or answer.end <= max(answer.start, first or 0):
            return _behind(position.watermark, position.head)
        low, high = floor_bucket(min(begin, answer.start)), answer.end + BUCKET
        before = stream.stored(low, high)
        stored = before | answer.minutes_alive
        answer = without_other_source(answer, before, limits)
        known = stream.windows(low, high)
        put: list[Window] = []
        if begin < answer.start:
            facts = outage(begin, answer.start)
            put += ledger_rules.unrecorded_gaps(
                known, begin, answer.start, stored=stored, outage=facts
            )
        coverage = coverage_of(answer, limits)
        put += ledger_rules.answered(
            known, coverage, first=first, head=position.head, stored=stored, now=now, live=True
        )
        head = max(answer.end, position.head or 0)
        watermark = position.watermark if first is None else first
        return _behind(write(stream, answer, put, watermark, head), head)


def store_filled(
    stream: Stream, request: Request, answer: SourceAnswer, now: float, limits: SourceLimits
) -> list[Window]:
    """Write the answer for gaps; return the windows that were written.

    Args:
        stream: the cluster's stream.
        request: the gaps that were requested.
        answer: the source's answer.
        now: our clock in Unix seconds.
        limits: the source's limits.

    Raises:
        StoreError: nothing was written.
        LeaseTimeoutError: another writer held the ledger too long; nothing was written.
        SourceReplacedError: nothing was written.
    """
    with locked(stream):
        check_source(stream, limits)
        start, end = floor_bucket(answer.start), max(request.end, request.windows[-1].end)
        before = stream.stored(start, end + BUCKET)
        answer = without_other_source(answer, before, limits)
        known = stream.windows(start, end)
        position = stream.position()
        put = ledger_rules.answered(
            known, coverage_of(answer, limits), first=None, head=position.head,
            stored=before | answer.minutes_alive, now=now, live=False,
        )  # fmt: skip
        # An hour of wider values may cover windows that are done.
        was_gap = {window.start for window in known if window.state == "gap"}
        put = [window for window in put if window.start in was_gap]
        write(stream, answer, put, position.watermark, None)
        return put


def store_missed(
    stream: Stream,
    error: ClusterError,
    now: float,
    outage: ledger_rules.Outage,
    limits: SourceLimits,
) -> None:
    """Write the minutes since the head as a gap, because a live pull failed.

    Before the first good pull nothing can be missing.

    Raises:
        StoreError: nothing was written.
        LeaseTimeoutError: another writer held the ledger too long; nothing was written.
    """
    with locked(stream):
        head = stream.position().head
        end = floor_minute(now - limits.settle_seconds)
        if head is None or end <= head:
            return
        known = stream.windows(floor_bucket(head), end + BUCKET)
        begin = ledger_rules.unaccounted(known, head, end)
        if begin >= end:
            return
        # Earlier attempts wrote the windows of past buckets; if not, no pull requested them.
        recent = max(begin, floor_bucket(end - BUCKET))
        stored = stream.stored(floor_bucket(begin), end + BUCKET)
        put = ledger_rules.unrecorded_gaps(known, begin, recent, stored=stored, outage=outage)
        put += ledger_rules.missed(
            known, recent, end, stored=stored,
            reason=reason_of(error), detail=one_line(str(error), MAX_DETAIL),
        )  # fmt: skip
        if put:
            stream.store.write(stream.cluster, stream.name, Batch(windows=_bounded(put)))


def store_refused(
    stream: Stream,
    batch: Sequence[Window],
    now: float,
    *,
    error: ClusterError | None,
    limits: SourceLimits,
) -> list[Window]:
    """Count an attempt to fill gaps that got no data; return the windows that were written.

    Args:
        stream: the cluster's stream.
        batch: the gaps that were requested.
        now: our clock in Unix seconds.
        error: the error it failed with; None if the source answered, but not for this range.
        limits: the source's limits.

    Raises:
        StoreError: nothing was written.
        LeaseTimeoutError: another writer held the ledger too long; nothing was written.
    """
    reason = None if error is None else reason_of(error)
    detail = "the source did not answer for this range" if error is None else str(error)
    starts = {window.start for window in batch}
    with locked(stream):
        windows = stream.windows(batch[0].start, batch[-1].end, "gap")
        put = [
            ledger_rules.refused(
                window, now, reason=reason, detail=one_line(detail, MAX_DETAIL),
                reach=limits.longest_reach,
            )
            for window in windows
            if window.start in starts
        ]  # fmt: skip
        watermark = stream.position().watermark
        if watermark is not None and any(window.state != "gap" for window in put):
            watermark = _advanced(stream, put, watermark, batch[-1].end)
        windows = _bounded(put)
        stream.store.write(stream.cluster, stream.name, Batch(windows=windows, watermark=watermark))
        return put


def check_source(stream: Stream, limits: SourceLimits) -> None:
    """Check that an answer comes from the cluster's current source; one query.

    A request to the previous source may still be running when another is set. Both may name the
    same nodes differently, and a minute stored from both counts them twice.

    Raises:
        SourceReplacedError: it comes from another source.
    """
    row = MetricSource.objects.filter(cluster_id=stream.cluster, role="main").first()
    if source_name(row) != limits.source:
        msg = f"{source_name(row) or 'the agent'} answers now instead of {limits.source or 'it'}"
        raise SourceReplacedError(msg)


def outage_of(
    cluster: Cluster, schedule: PullSchedule | None, start: int, end: int
) -> ledger_rules.Outage:
    """Return what is known about a range without good pulls; one query."""
    sessions = (
        TunnelSession.objects.filter(cluster=cluster, connected_at__lt=utc_datetime(end))
        .filter(Q(ended_at=None) | Q(ended_at__gt=utc_datetime(start)))
        .values_list("connected_at", "ended_at")
    )
    attempt = schedule.last_attempt_at if schedule is not None else None
    return ledger_rules.Outage(
        last_attempt_at=attempt.timestamp() if attempt is not None else None,
        error_code=schedule.error_code if schedule is not None else "",
        tunnel_up=[
            (since.timestamp(), until.timestamp() if until is not None else None)
            for since, until in sessions
        ],
        enrolled_at=cluster.enrolled_at.timestamp() if cluster.enrolled_at is not None else None,
    )


def reason_of(error: ClusterError) -> Reason:
    """Return the ledger's reason for an error of a pull."""
    return ledger_rules.REASONS.get(error.code, "service_down")


def _first_minute(
    position: Position, answer: SourceAnswer, now: float, limits: SourceLimits
) -> int | None:
    """Return the stream's first minute if this is its first answer; else None."""
    if position.head is not None:
        return None
    candidates = [row.ts for row in answer.rows[:1]]
    if answer.oldest is not None:
        candidates.append(answer.oldest)
    oldest = min(candidates, default=answer.end)
    if oldest >= answer.end:
        return None
    reach = limits.first_reach
    return oldest if reach is None else max(oldest, floor_minute(now - reach))


def coverage_of(answer: SourceAnswer, limits: SourceLimits) -> Coverage:
    """Return the facts about an answer that the ledger's rules need."""
    return Coverage(
        answer.start, answer.end, answer.oldest, answer.resolution, failed=answer.failed,
        left_out=spans_left_out(answer.clock_steps), is_agent=not limits.source,
    )  # fmt: skip


def without_other_source(
    answer: SourceAnswer, before: set[int], limits: SourceLimits
) -> SourceAnswer:
    """Return the answer without the minutes that are already stored from another source.

    Two sources may name one node differently: with both in one minute, or in one wider bucket, the
    cluster's sums would count it twice.

    Args:
        answer: the source's answer.
        before: starts of the stored minutes in Unix seconds.
        limits: the source's limits; ``since`` is where its own minutes begin.
    """
    if answer.start >= limits.since:
        return answer
    theirs = {minute for minute in before if minute < limits.since}
    rows = [row for row in answer.rows if row.ts not in theirs]
    full = {(tier, minute - minute % width) for tier, width in TIERS.items() for minute in theirs}
    coarse = [row for row in answer.coarse if (row.tier, row.ts) not in full]
    dropped = {
        minute
        for row in answer.coarse
        if (row.tier, row.ts) in full
        for minute in range(row.ts, row.ts + TIERS[row.tier], MINUTE)
    }
    alive = answer.minutes_alive - dropped
    return replace(answer, rows=rows, coarse=coarse, minutes_alive=alive)


def _behind(watermark: int | None, head: int | None) -> bool:
    return watermark is not None and head is not None and watermark < head


def locked(stream: Stream) -> AbstractContextManager[None]:
    """Return the lease under which a stream's ledger is read and written."""
    name = f"ledger:{stream.cluster}:{stream.name}"
    return leases.wait_for(name, LOCK_SECONDS, timeout_seconds=LOCK_WAIT_SECONDS)


def write(
    stream: Stream,
    answer: SourceAnswer,
    put: Sequence[Window],
    watermark: int | None,
    head: int | None,
) -> int | None:
    """Write an answer and its windows at once; return the new watermark."""
    if watermark is not None:
        known = stream.position().head or 0 if head is None else head
        newest = max(answer.end, watermark, known, *(window.end for window in put))
        watermark = _advanced(stream, put, watermark, newest)
    batch = Batch(
        rows=answer.rows, infos=answer.infos, windows=_bounded(put), watermark=watermark,
        head=head, coarse=answer.coarse,
    )  # fmt: skip
    result = stream.store.write(stream.cluster, stream.name, batch)
    if result.detail:
        logger.warning("cluster %s: not everything was stored: %s", stream.cluster, result.detail)
    return watermark


def _advanced(stream: Stream, put: Sequence[Window], watermark: int, end: int) -> int:
    """Return the watermark after the ledger's windows and those about to be written."""
    known = {window.start: window for window in put}
    while watermark < end + BUCKET:
        # A day at a time, so as not to read a year's windows to find the next gap.
        until = watermark + DAY
        windows = {window.start: window for window in stream.windows(watermark, until)}
        windows.update((start, window) for start, window in known.items() if start < until)
        reached = ledger_rules.advance(windows.values(), watermark)
        if reached == watermark or reached < until:
            return reached
        watermark = reached
    return watermark


def _bounded(windows: Sequence[Window]) -> list[Window]:
    return [replace(window, detail=window.detail[:MAX_DETAIL]) for window in windows]
