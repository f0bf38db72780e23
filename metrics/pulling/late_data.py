"""Late data: stored windows are requested again, and new data is stored.

A source other than our own agent may get its data late: a node was cut off from it, or a queue was
full. So each window is requested again 10 minutes, 1 hour and 6 hours after its end
(:data:`metrics.pulling.late_data_rules.LATE_DELAYS`), complete or not: the expected number of
series is known only roughly, and one late pod is worth storing. Where nothing came, this costs the
source one request for many windows and us a checksum; nothing is written.
"""

from __future__ import annotations

from metrics.connections.source_limits import SourceLimits
from metrics.pulling import ledger_rules, ledger_writer
from metrics.pulling.etcd import with_stored
from metrics.pulling.ledger_facts import check_source, coverage_of, without_other_source
from metrics.pulling.requests import Request
from metrics.pulling.stream import Stream, locked
from metrics.series.catalog import Kind
from metrics.series.rollups import minute
from metrics.series.rows import MinuteRow
from metrics.series.source_answer import SourceAnswer
from metrics.stores import checksum
from metrics.stores.copier import StoredRow

_RAW_KINDS: tuple[Kind, ...] = ("node", "filesystem", "pod")


def store_late(
    stream: Stream, request: Request, answer: SourceAnswer, now: float, limits: SourceLimits
) -> int:
    """Write the answer to a repeated request; return the number of its rows, 0 if none is new.

    Rows that are stored already are compared by their checksum and not written again. The
    ledger changes only where minutes came.

    Args:
        stream: the cluster's stream.
        request: the windows that were requested.
        answer: the source's answer; wider values are not new.
        now: our clock in Unix seconds.
        limits: the source's limits.

    Raises:
        StoreError: nothing was written.
        LeaseTimeoutError: another writer held the ledger too long; nothing was written.
        SourceReplacedError: nothing was written.
    """
    if not answer.rows:
        return 0
    answer = with_stored(stream.store, stream.cluster, answer)
    with locked(stream):
        check_source(stream, limits)
        before = stream.stored(request.start, request.end)
        answer = without_other_source(answer, before, limits)
        if _all_stored(stream, answer, request.start, request.end):
            return 0
        known = stream.windows(request.start, request.end)
        position = stream.position()
        put = ledger_rules.answered(
            known, coverage_of(answer, limits), first=None, head=position.head,
            stored=before | answer.minutes_alive, now=now, live=False,
        )  # fmt: skip
        got = {window.start: window.got for window in known if window.state != "gap"}
        put = [window for window in put if window.got > got.get(window.start, window.expected)]
        ledger_writer.write(stream, answer, put, position.watermark, None)
        return len(answer.rows)


def _all_stored(stream: Stream, answer: SourceAnswer, start: int, end: int) -> bool:
    """Return whether the store holds exactly the answer's rows of ``[start, end)``."""
    for kind in _RAW_KINDS:
        rows = [_as_stored(row) for row in answer.rows if row.key.kind == kind]
        found = stream.store.counts(stream.cluster, kind, "1m", start, end)
        if found != (len(rows), checksum.add(rows)):
            return False
    return True


def _as_stored(row: MinuteRow) -> StoredRow:
    samples = max((cell.n for cell in row.cells if cell), default=0)
    return StoredRow(row.ts, row.key, samples, tuple(minute(cell) for cell in row.cells))
