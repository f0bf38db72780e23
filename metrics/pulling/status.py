"""The progress of a cluster's pulls, for pages and the API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from clusters.models import Cluster
from metrics.models import PullSchedule
from metrics.pulling.progress import Progress, measured
from metrics.pulling.schedule import back_off_seconds
from metrics.query import position, windows
from metrics.series.windows import STREAM, utc_datetime
from opscenter.core.ages import FUTURE_SECONDS, age_seconds


@dataclass(frozen=True, slots=True)
class PullState:
    """What is known of a cluster's pulls besides their success.

    Attributes:
        duration_ms: duration of the last pull, from its start to the commit; None before it.
        is_filling: whether gaps are open that are being filled.
        notes: oddities of the source's last answer, short lines.
    """

    duration_ms: float | None = None
    is_filling: bool = False
    notes: tuple[str, ...] = ()


def pull_state(cluster: Cluster) -> PullState:
    """Return the state of a cluster's pulls. One query."""
    found = _states(PullSchedule.objects.filter(cluster=cluster))
    return next((state for _, state in found), PullState())


def odd_pulls(slow_ms: float) -> dict[UUID, PullState]:
    """Return the pulls of all clusters that are slow, are filling gaps or have notes. One query.

    Args:
        slow_ms: duration from which on a pull is slow, in milliseconds.
    """
    odd = Q(duration_ms__gte=slow_ms) | Q(backfill_due_at__isnull=False) | ~Q(notes=[])
    return dict(_states(PullSchedule.objects.filter(odd)))


def idle_seconds(now: float, started_at: float) -> float | None:
    """Return for how long no cluster at all has been pulled, in seconds; None while pulls go on.

    A pull that failed was a pull. None too where no cluster is enrolled. Of each it is known how
    long it may wait: its interval, or its back-off, and as long as a pull and a process may take.
    One query, of which one row is read while pulls go on.

    Args:
        now: Unix time in seconds.
        started_at: when the centre started, Unix seconds. What it did not do while it was down is
            not held against it: for one interval after a start the answer is None.
    """
    interval = settings.PULL_INTERVAL_SECONDS
    patience = settings.PULL_DEADLINE_SECONDS + settings.HEARTBEAT_LIMIT_SECONDS
    tried = Coalesce("last_attempt_at", "cluster__enrolled_at")
    rows = (
        PullSchedule.objects.filter(stream=STREAM, cluster__status=Cluster.Status.ACTIVE)
        .annotate(tried=tried)
        .filter(tried__lte=utc_datetime(now + FUTURE_SECONDS))
        .order_by("-tried")
        .values_list("tried", "failures")
    )
    newest = None
    for at, failures in rows.iterator(chunk_size=100):
        age = age_seconds(at.timestamp(), now) or 0.0
        if age <= max(interval, back_off_seconds(failures, interval)) + patience:
            return None
        newest = age if newest is None else newest
    return None if 0 <= now - started_at < interval else newest


def _states(rows: QuerySet[PullSchedule]) -> Iterator[tuple[UUID, PullState]]:
    columns = ("cluster_id", "duration_ms", "backfill_due_at", "notes")
    for cluster, duration_ms, due_at, notes in rows.filter(stream=STREAM).values_list(*columns):
        yield cluster, PullState(duration_ms, due_at is not None, tuple(map(str, notes)))


def progress_of(cluster: Cluster) -> Progress:
    """Return the progress of filling gaps. One query, and the ledger's open gaps."""
    stored = PullSchedule.objects.filter(cluster=cluster, stream=STREAM).values_list(
        "progress", flat=True
    )
    at = position(cluster)
    if at.watermark is None or at.head is None or at.watermark >= at.head:
        return measured([], {})
    gaps = windows(cluster, at.watermark, at.head, ("gap",))
    return measured(gaps, stored.first() or {})
