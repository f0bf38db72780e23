"""When each cluster is pulled: rows of :class:`~metrics.models.PullSchedule`, read by beat's tick.

Every cluster has its own second within the interval, so that a fleet's pulls are spread evenly and
stay so across restarts.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q

from clusters.models import Cluster
from metrics.models import PullSchedule
from metrics.series.windows import STREAM, utc_datetime
from opscenter.core.ages import FUTURE_SECONDS

logger = logging.getLogger(__name__)

MAX_AT_ONCE = 1000  # of one tick; the rest is due in the next
FAR_SECONDS = 7200  # longer than any delay: a later time was set before a clock went back
MAX_BACK_OFF_SECONDS = 600
CLOCK_WENT_BACK = timedelta(seconds=FUTURE_SECONDS)  # sent later than this after now: it did


@dataclass(frozen=True, slots=True)
class Due:
    """What one tick has to queue, as cluster ids."""

    pulls: list[UUID]
    backfills: list[UUID]


def phase_seconds(cluster_id: UUID, interval_seconds: int) -> int:
    """Return the cluster's own second within the interval: 0 to interval - 1."""
    digest = hashlib.blake2s(cluster_id.bytes, digest_size=8).digest()
    return int.from_bytes(digest) % interval_seconds


def next_due(cluster_id: UUID, now: float, interval_seconds: int) -> float:
    """Return the Unix time of the cluster's own second that comes next after ``now``."""
    phase = phase_seconds(cluster_id, interval_seconds)
    return (int(now - phase) // interval_seconds + 1) * interval_seconds + phase


def back_off_seconds(failures: int, interval_seconds: float) -> float:
    """Return how many seconds to wait after failures in a row: doubling, at most ten minutes."""
    if failures <= 0:
        return interval_seconds
    return min(MAX_BACK_OFF_SECONDS, interval_seconds * (1 << min(failures - 1, 16)))


def claim_due(now: float) -> Due:
    """Return what is due now and schedule it for its next time, so that no tick sends it twice.

    A pull is due at its second of the interval (later while it backs off), and at once when a
    tunnel came up since it was last sent. Gaps are filled only while the tunnel is up. All that was
    last sent in the future is due: its times were set before a clock went back.
    One query for new clusters, one for what is due, and one update each if there is any.
    """
    at = utc_datetime(now)
    _add_new(at)
    far = at + timedelta(seconds=FAR_SECONDS)
    sent_later = Q(dispatched_at__gt=at + CLOCK_WENT_BACK)
    came_up = (
        Q(cluster__current__tunnel_up=True)
        & Q(cluster__current__tunnel_since__lte=at + CLOCK_WENT_BACK)
        & (Q(dispatched_at=None) | Q(cluster__current__tunnel_since__gt=F("dispatched_at")))
    )
    to_fill = (
        Q(backfill_due_at__lte=at) | Q(backfill_due_at__gt=far)
        | Q(recheck_due_at__lte=at) | Q(recheck_due_at__gt=far)
    ) & Q(cluster__current__tunnel_up=True)  # fmt: skip
    due = list(
        PullSchedule.objects.select_related("cluster__current")
        .filter(
            stream=STREAM, cluster__status=Cluster.Status.ACTIVE, cluster__current__isnull=False
        )
        .filter(Q(due_at__lte=at) | Q(due_at__gt=far) | sent_later | came_up | to_fill)
        .order_by("due_at")[:MAX_AT_ONCE]
    )
    pulls = [row for row in due if _pull_is_due(row, at)]
    up = [row for row in due if row.cluster.current.tunnel_up]
    backfills = [row for row in up if _fill_is_due(row, row.backfill_due_at, at)]
    rechecks = [
        row for row in up if row not in backfills and _fill_is_due(row, row.recheck_due_at, at)
    ]
    for row in pulls:
        following = next_due(row.cluster_id, now, settings.PULL_INTERVAL_SECONDS)
        row.due_at, row.dispatched_at = utc_datetime(following), at
    PullSchedule.objects.bulk_update(pulls, ["due_at", "dispatched_at"], batch_size=200)
    # The run itself schedules the next one; this is in case it never does.
    later = at + timedelta(seconds=3 * settings.PULL_DEADLINE_SECONDS)
    for rows, column in ((backfills, "backfill_due_at"), (rechecks, "recheck_due_at")):
        if rows:
            PullSchedule.objects.filter(pk__in=[row.pk for row in rows]).update(**{column: later})
    return Due([row.cluster_id for row in pulls], [row.cluster_id for row in backfills + rechecks])


def dispatch(
    now: float, send_pull: Callable[[UUID], None], send_fill: Callable[[UUID], None]
) -> int:
    """Send what is due; return how many tasks were sent."""
    due = claim_due(now)
    for cluster_id in due.pulls:
        send_pull(cluster_id)
    for cluster_id in due.backfills:
        send_fill(cluster_id)
    return len(due.pulls) + len(due.backfills)


def _pull_is_due(schedule: PullSchedule, at: datetime) -> bool:
    if _is_due(schedule.due_at, at) or _was_sent_later(schedule, at):
        return True
    current = schedule.cluster.current
    if not current.tunnel_up or current.tunnel_since is None:
        return False
    if current.tunnel_since > at + CLOCK_WENT_BACK:
        return False  # it did not come up just now: a clock was ahead
    return schedule.dispatched_at is None or current.tunnel_since > schedule.dispatched_at


def _fill_is_due(schedule: PullSchedule, due_at: datetime | None, at: datetime) -> bool:
    return _is_due(due_at, at) or (due_at is not None and _was_sent_later(schedule, at))


def _was_sent_later(schedule: PullSchedule, at: datetime) -> bool:
    """Return whether it was last sent in the future: its times are of a clock that was ahead."""
    return schedule.dispatched_at is not None and schedule.dispatched_at > at + CLOCK_WENT_BACK


def _is_due(due_at: datetime | None, at: datetime) -> bool:
    """Return whether a time is past, or further in the future than any delay."""
    return due_at is not None and not at < due_at <= at + timedelta(seconds=FAR_SECONDS)


def _add_new(at: datetime) -> None:
    """Create the schedules of clusters that have none, due now."""
    known = PullSchedule.objects.filter(cluster=OuterRef("pk"), stream=STREAM)
    new = Cluster.objects.filter(~Exists(known), status=Cluster.Status.ACTIVE)
    rows = [
        PullSchedule(cluster_id=pk, stream=STREAM, due_at=at)
        for pk in new.values_list("pk", flat=True)
    ]
    if rows:
        PullSchedule.objects.bulk_create(rows, ignore_conflicts=True)
