"""What the ledger's rules are told: of an answer, of a failure, and of a time without pulls."""

from __future__ import annotations

from dataclasses import replace

from django.db.models import Q

from clusters.models import Cluster, TunnelSession
from metrics.connections.config import source_name
from metrics.connections.source_limits import SourceLimits
from metrics.models import MetricSource, PullSchedule
from metrics.pulling import ledger_rules
from metrics.pulling.losses import Coverage, spans_left_out
from metrics.pulling.stream import Stream
from metrics.series.catalog import TIERS
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE, Reason, utc_datetime
from opscenter.core.errors import ClusterError, OpsCenterError
from opscenter.core.single_row import single


class SourceReplacedError(OpsCenterError):
    """Another source was set while this one answered; its answer is no longer wanted."""

    code = "source_replaced"
    http_status = 409


def check_source(stream: Stream, limits: SourceLimits) -> None:
    """Check that an answer comes from the cluster's current source; one query.

    A request to the previous source may still be running when another is set. Both may name the
    same nodes differently, and a minute stored from both counts them twice.

    Raises:
        SourceReplacedError: it comes from another source.
    """
    rows = MetricSource.objects.filter(cluster_id=stream.cluster, role="main")
    name = source_name(single(rows.only("kind", "service")))
    if name != limits.source:
        msg = f"{name or 'the agent'} answers now instead of {limits.source or 'it'}"
        raise SourceReplacedError(msg)


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


def reason_of(error: ClusterError) -> Reason:
    """Return the ledger's reason for an error of a pull."""
    return ledger_rules.REASONS.get(error.code, "service_down")


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
