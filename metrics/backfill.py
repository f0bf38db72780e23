"""Fill the gaps of one cluster's ledger, apart from live pulls and without delaying them.

A run asks for gap after gap until none is left, its time is up or the way is gone. Gaps of the
last hour come first, newest first; then those that the source will forget first.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from django.conf import settings

from clusters.models import Cluster
from metrics import gaps, lease, ledger
from metrics.connect import Connect, by_tunnel
from metrics.models import PullSchedule
from metrics.pull import (
    LEASE_MARGIN_SECONDS,
    STREAM,
    back_off_seconds,
    fetch,
    to_pull,
)
from metrics.stores import get_store
from metrics.stores.base import StoreError, Window
from metrics.turns import Turn
from opscenter.core import realtime
from opscenter.core.errors import BadResponseError, ClusterError, ClusterUnreachableError

logger = logging.getLogger(__name__)

MAX_AT_ONCE = 4  # runs of all workers together, so that live pulls always find a free thread
BUSY_RETRY_SECONDS = 5


@dataclass(slots=True)
class BackfillResult:
    """What a run did. ``asked`` lists the ranges in the order in which they were asked for."""

    ran: bool = False
    filled: int = 0  # windows that are done now
    lost: int = 0  # windows of which the source lacks minutes
    open: int = 0  # gaps that are left
    error: str = ""  # what ended the run early; "" if nothing did
    asked: list[tuple[int, int]] = field(default_factory=list)


def backfill_cluster(
    cluster_id: UUID, now: float | None = None, *, connect: Connect = by_tunnel
) -> BackfillResult:
    """Fill a cluster's gaps for at most the pull's deadline, and note when to go on.

    A failure of the cluster ends the run and is counted on the windows, not raised.

    Args:
        cluster_id: which cluster.
        now: Unix seconds; the clock if None.
        connect: opens the way to the agent.

    Raises:
        redis.RedisError: if Redis cannot be asked for the lease; nothing was tried.
    """
    now = time.time() if now is None else now
    ttl = 2 * settings.PULL_DEADLINE_SECONDS + ledger.LOCK_WAIT_SECONDS + LEASE_MARGIN_SECONDS
    slots = [f"backfill-slot:{number}" for number in range(MAX_AT_ONCE)]
    with lease.hold(f"backfill:{cluster_id}:{STREAM}", ttl) as held:
        if not held:
            return BackfillResult()
        with lease.hold_any(slots, ttl) as slot:
            cluster = to_pull(cluster_id)
            if slot is None or cluster is None or not cluster.current.tunnel_up:
                _schedule(cluster_id, due_in=BUSY_RETRY_SECONDS, now=now)
                return BackfillResult()
            return _Run(cluster, now, connect).run()


@dataclass(slots=True)
class _Run:
    """One run over the gaps of one cluster."""

    cluster: Cluster
    now: float
    connect: Connect
    result: BackfillResult = field(default_factory=lambda: BackfillResult(ran=True))

    def run(self) -> BackfillResult:
        """Ask for gaps until the time is up or nothing is left that was not tried."""
        stream = ledger.Stream(get_store(), self.cluster.pk, STREAM)
        stop_at = time.monotonic() + settings.PULL_DEADLINE_SECONDS
        tried: set[int] = set()
        one_by_one = False
        while time.monotonic() < stop_at and not self.result.error:
            open_gaps = stream.open_gaps()
            batch = gaps.next_request(open_gaps, self.now, tried=tried, one_by_one=one_by_one)
            if not batch:
                break
            try:
                self._ask(stream, batch)
            except (StoreError, lease.LeaseTimeoutError):
                # Ours, not the cluster's: nothing was written, the next run asks again.
                logger.exception("cluster %s: a gap was not stored", self.cluster)
                self.result.error = "store_error"
            except ClusterError as exc:
                if len(batch) > 1 and not isinstance(exc, ClusterUnreachableError):
                    one_by_one = True  # one of them may be the culprit: find it
                    continue
                self._refused(stream, batch, exc)
            tried |= {line.start for line in batch}
        self._finish(stream)
        return self.result

    def _ask(self, stream: ledger.Stream, batch: list[Window]) -> None:
        start, end = batch[0].start, batch[-1].end
        self.result.asked.append((start, end))
        with Turn("filling") as turn:
            answer = fetch(self.cluster, start, end, self.now, self.connect, turn)
            if answer.end <= answer.start:
                self._count(ledger.store_refused(stream, batch, self.now, error=None))
                return
            self._count(ledger.store_filled(stream, batch, answer, self.now))

    def _refused(self, stream: ledger.Stream, batch: list[Window], error: ClusterError) -> None:
        """Count the attempt; end the run unless it was only this answer that was bad."""
        logger.info("cluster %s: a gap was not filled: %s", self.cluster, error)
        if not isinstance(error, BadResponseError):
            self.result.error = error.code
        if not isinstance(error, ClusterUnreachableError):
            self._count(ledger.store_refused(stream, batch, self.now, error=error))

    def _count(self, lines: list[Window]) -> None:
        self.result.filled += sum(1 for line in lines if line.state == "done")
        self.result.lost += sum(1 for line in lines if line.state == "lost")

    def _finish(self, stream: ledger.Stream) -> None:
        """Note when the next run is due: at once after progress, later and later without."""
        result = self.result
        result.open = len(stream.open_gaps())
        progress = result.filled + result.lost > 0
        if not result.open:
            _schedule(self.cluster.pk, due_in=None, now=self.now)
        elif progress and not result.error:
            _schedule(self.cluster.pk, due_in=0, now=self.now)
        else:
            failures = (
                PullSchedule.objects.filter(cluster=self.cluster, stream=STREAM)
                .values_list("backfill_failures", flat=True)
                .first()
            ) or 0
            wait = back_off_seconds(failures + 1, settings.PULL_INTERVAL_SECONDS)
            _schedule(self.cluster.pk, due_in=wait, now=self.now, failures=failures + 1)
        if progress:
            realtime.publish(self.cluster.pk, "data")


def _schedule(cluster_id: UUID, *, due_in: float | None, now: float, failures: int = 0) -> None:
    """Put when the next run is due; None: no gap is open."""
    due_at = None if due_in is None else datetime.fromtimestamp(now + due_in, UTC)
    PullSchedule.objects.filter(cluster_id=cluster_id, stream=STREAM).update(
        backfill_due_at=due_at, backfill_failures=failures
    )
