"""Write answers and failures of a stream to the store: rows, ledger windows and watermark at once.

The rules are :mod:`metrics.pulling.ledger_rules`. Each function here reads their input
(:mod:`~metrics.pulling.stream`, :mod:`~metrics.pulling.ledger_facts`) and writes their result
(:mod:`~metrics.pulling.ledger_writer`), under the stream's lease.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from metrics.connections.source_limits import SourceLimits
from metrics.pulling import ledger_rules, ledger_writer
from metrics.pulling.ledger_facts import check_source, coverage_of, reason_of, without_other_source
from metrics.pulling.requests import Request
from metrics.pulling.stream import Stream, locked
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import BUCKET, Position, Window, floor_bucket, floor_minute
from metrics.stores.writer import Batch
from opscenter.core.errors import ClusterError
from opscenter.core.text import one_line


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
        return _behind(ledger_writer.write(stream, answer, put, watermark, head), head)


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
        ledger_writer.write(stream, answer, put, position.watermark, None)
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
            reason=reason_of(error), detail=one_line(str(error), ledger_writer.MAX_DETAIL),
        )  # fmt: skip
        if put:
            stream.store.write(
                stream.cluster, stream.name, Batch(windows=ledger_writer.bounded(put))
            )


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
                window, now, reason=reason, detail=one_line(detail, ledger_writer.MAX_DETAIL),
                reach=limits.longest_reach,
            )
            for window in windows
            if window.start in starts
        ]  # fmt: skip
        watermark = stream.position().watermark
        if watermark is not None and any(window.state != "gap" for window in put):
            watermark = ledger_writer.advanced(stream, put, watermark, batch[-1].end)
        windows = ledger_writer.bounded(put)
        stream.store.write(stream.cluster, stream.name, Batch(windows=windows, watermark=watermark))
        return put


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


def _behind(watermark: int | None, head: int | None) -> bool:
    return watermark is not None and head is not None and watermark < head
