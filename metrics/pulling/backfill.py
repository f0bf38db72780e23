"""Fill the gaps of one cluster's ledger, separately from live pulls and without delaying them.

A run requests gap after gap until none is left, its time is up or the connection is lost, in the
order of :func:`metrics.pulling.requests.plan`. Then it checks for late data where that is due.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings

from clusters.models import Cluster
from metrics.connections.connect import Connect, SourceConnection, connection_to
from metrics.connections.refused_values import count_refused
from metrics.models import PullSchedule
from metrics.pulling import ledger, ledger_rules, requests
from metrics.pulling.history import correct_by_gap
from metrics.pulling.late_data import store_late
from metrics.pulling.late_data_rules import LATE_DELAYS, late_until, late_windows
from metrics.pulling.ledger_facts import SourceReplacedError
from metrics.pulling.progress import after_run
from metrics.pulling.pull import LEASE_MARGIN_SECONDS, to_pull
from metrics.pulling.requests import Request
from metrics.pulling.schedule import back_off_seconds
from metrics.pulling.stream import LOCK_WAIT_SECONDS, Stream
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import BUCKET, STREAM, Window, floor_bucket, utc_datetime
from metrics.sources.parse_concurrency import ParseSlot
from metrics.stores import StoreError, get_store
from opscenter.core import leases, realtime
from opscenter.core.errors import (
    BadResponseError,
    ClusterError,
    ClusterUnreachableError,
    ConsentOffError,
    SourceConfigError,
)

logger = logging.getLogger(__name__)

MAX_AT_ONCE = 4  # runs of all workers together, so that live pulls always find a free thread
BUSY_RETRY_SECONDS = 5
DEADLINES = 2  # of a live pull: how long one request about the past may take
SHOW_SECONDS = 2  # between two progress updates of open pages
_FINAL = (
    ClusterUnreachableError,
    ConsentOffError,
    SourceConfigError,
)  # smaller requests do not help


@dataclass(slots=True)
class BackfillResult:
    """What a run did. ``requested`` lists the ranges in the order of the requests."""

    ran: bool = False
    filled: int = 0  # windows that are done now
    lost: int = 0  # windows of which the source lacks minutes
    open: int = 0  # gaps that are left
    late: int = 0  # rows of windows with late data
    error: str = ""  # what ended the run early; "" if nothing did
    requested: list[tuple[int, int]] = field(default_factory=list)


def backfill_cluster(
    cluster_id: UUID, now: float | None = None, *, connect: Connect | None = None
) -> BackfillResult:
    """Fill a cluster's gaps for at most the pull's deadline, and schedule the next run.

    A failure of the cluster ends the run and is counted on the windows, not raised.

    Args:
        cluster_id: the cluster's id.
        now: current Unix time in seconds; None reads the clock.
        connect: opens the client instead of the tunnel, for tests; None for the tunnel.

    Raises:
        redis.RedisError: Redis cannot grant the lease; nothing was tried.
    """
    now = time.time() if now is None else now
    deadline = settings.PULL_DEADLINE_SECONDS
    ttl = (1 + DEADLINES) * deadline + LOCK_WAIT_SECONDS + LEASE_MARGIN_SECONDS
    lease_names = [f"backfill-slot:{number}" for number in range(MAX_AT_ONCE)]
    with leases.hold(f"backfill:{cluster_id}:{STREAM}", ttl) as held:
        if not held:
            return BackfillResult()
        with leases.hold_any(lease_names, ttl) as lease:
            cluster = to_pull(cluster_id)
            if lease is None or cluster is None or not cluster.current.tunnel_up:
                _schedule(cluster_id, due_in=BUSY_RETRY_SECONDS, now=now)
                return BackfillResult()
            schedule = PullSchedule.objects.filter(cluster=cluster, stream=STREAM).first()
            try:
                connection = connection_to(cluster, schedule, connect)
            except SourceConfigError as exc:
                logger.warning("cluster %s: gaps are not filled: %s", cluster, exc)
                _schedule(cluster_id, due_in=BUCKET, now=now)
                return BackfillResult(error=exc.code)
            return _Run(cluster, schedule, connection, now).run()


@dataclass(slots=True)
class _Run:
    """One run over the gaps of one cluster."""

    cluster: Cluster
    schedule: PullSchedule | None
    connection: SourceConnection
    now: float
    result: BackfillResult = field(default_factory=lambda: BackfillResult(ran=True))
    minutes: int = 0  # filled or found to be lost
    longest: int | None = None  # request that the source answers, in s; None for its own limit
    began: float = field(default_factory=time.monotonic)
    shown_at: float = field(default_factory=time.monotonic)

    def run(self) -> BackfillResult:
        """Request gaps until the time is up or all of them were tried."""
        stream = Stream(get_store(), self.cluster.pk, STREAM)
        stop_at = self.began + settings.PULL_DEADLINE_SECONDS
        self.longest = (self.schedule.progress if self.schedule else {}).get("longest")
        queue = deque(
            requests.plan(stream.open_gaps(), self.now, self.connection.limits, self.longest)
        )
        while queue and time.monotonic() < stop_at and not self.result.error:
            request = queue.popleft()
            too_long = self.longest is not None and request.end - request.start > self.longest
            parts = request.halves() if too_long and len(request.windows) > 1 else None
            queue.extendleft(reversed(parts or self._try(stream, request)))
        if self.connection.limits.late and not self.result.error:
            self._recheck_late_data(stream, stop_at)
        elif self.schedule is not None and not self.connection.limits.late:
            # The previous source was checked for late data; this one never is.
            PullSchedule.objects.filter(pk=self.schedule.pk).update(recheck_due_at=None)
        self._finish(stream)
        return self.result

    def _try(self, stream: Stream, request: Request) -> list[Request]:
        """Send one request; return the requests that replace or continue it."""
        try:
            return self._fill(stream, request)
        except (StoreError, leases.LeaseTimeoutError):
            # Our failure, not the cluster's: nothing was written, the next run requests it again.
            logger.exception("cluster %s: a gap was not stored", self.cluster)
            self.result.error = ledger_rules.STORE_ERROR
        except SourceReplacedError as exc:
            self.result.error = exc.code
        except ClusterError as exc:
            if len(request.windows) > 1 and not isinstance(exc, _FINAL):
                # The request is too large, or one of its windows fails: find it.
                self.longest = max(BUCKET, (request.end - request.start) // 2)
                return request.halves()
            self._refused(stream, request.windows, exc)
        return []

    def _fill(self, stream: Stream, request: Request) -> list[Request]:
        self.result.requested.append((request.start, request.end))
        with ParseSlot("filling") as slot:
            answer = self._fetch(request, slot)
            if answer.end <= answer.start:
                self._refused(stream, request.windows, None)
                return []
            put = ledger.store_filled(stream, request, answer, self.now, self.connection.limits)
        self._count(request.windows, put)
        count_refused(self.cluster.pk, answer, self.now)
        correct_by_gap(self.cluster, stream.store, answer, self.now)
        rest = request.rest(answer.end)
        return [rest] if rest is not None else []

    def _fetch(self, request: Request, slot: ParseSlot) -> SourceAnswer:
        seconds = DEADLINES * settings.PULL_DEADLINE_SECONDS
        return self.connection.fetch(request.start, request.end, self.now, slot, seconds=seconds)

    def _refused(
        self, stream: Stream, windows: Sequence[Window], error: ClusterError | None
    ) -> None:
        """Count the attempt; end the run unless only this answer was bad."""
        if error is not None:
            logger.info("cluster %s: a gap was not filled: %s", self.cluster, error)
            if not isinstance(error, BadResponseError):
                self.result.error = error.code
        if isinstance(error, ClusterUnreachableError):
            return
        try:
            put = ledger.store_refused(
                stream, windows, self.now, error=error, limits=self.connection.limits
            )
        except (StoreError, leases.LeaseTimeoutError):
            logger.exception("cluster %s: an attempt was not recorded", self.cluster)
            self.result.error = ledger_rules.STORE_ERROR
        else:
            self._count(windows, put)

    def _count(self, requested: Sequence[Window], put: Sequence[Window]) -> None:
        before = {window.start: window for window in requested}
        for window in put:
            self.result.filled += window.state == "done"
            self.result.lost += window.state == "lost"
            old = before.get(window.start)
            if old is not None and window.state != "gap":
                self.minutes += old.expected - old.got
        if put and time.monotonic() - self.shown_at >= SHOW_SECONDS:
            self.shown_at = time.monotonic()
            self._store_progress()
            realtime.publish(self.cluster.pk, "data")

    def _store_progress(self) -> None:
        """Store the progress of this run, for open pages."""
        before = self.schedule.progress if self.schedule else {}
        ended = self.now + time.monotonic() - self.began
        progress = after_run(before, self.now, ended, self.minutes, longest=self._next_longest())
        PullSchedule.objects.filter(cluster=self.cluster, stream=STREAM).update(progress=progress)

    def _recheck_late_data(self, stream: Stream, stop_at: float) -> None:
        """Request windows again whose data may have come late, the longest overdue first."""
        rechecked = dict(self.schedule.rechecked) if self.schedule else {}
        limits = self.connection.limits
        for delay in LATE_DELAYS:
            until = late_until(delay, self.now, limits)
            since = max(int(rechecked.get(str(delay), until - BUCKET)), until - 24 * 3600)
            windows = stream.windows(since, until)
            late = late_windows(windows, delay, since, self.now, limits)
            for request in requests.joined(late, limits.longest_request):
                if time.monotonic() >= stop_at or not self._recheck(stream, request):
                    break
                since = request.end
            else:
                since = max(since, until)
            rechecked[str(delay)] = since
        PullSchedule.objects.filter(cluster=self.cluster, stream=STREAM).update(
            rechecked=rechecked, recheck_due_at=utc_datetime(floor_bucket(self.now) + BUCKET)
        )

    def _recheck(self, stream: Stream, request: Request) -> bool:
        """Request windows again and store what came; return whether that worked."""
        self.result.requested.append((request.start, request.end))
        try:
            with ParseSlot("filling") as slot:
                answer = self._fetch(request, slot)
                late = store_late(stream, request, answer, self.now, self.connection.limits)
                self.result.late += late
            if late:
                correct_by_gap(self.cluster, stream.store, answer, self.now)
        except BadResponseError as exc:
            logger.info("cluster %s: late data was not checked for: %s", self.cluster, exc)
            return True  # stored data stays; the next delay requests it again
        except (
            ClusterError, StoreError, leases.LeaseTimeoutError, SourceReplacedError,
        ) as exc:  # fmt: skip
            logger.info("cluster %s: late data was not checked for: %s", self.cluster, exc)
            return False
        return True

    def _finish(self, stream: Stream) -> None:
        """Schedule the next run: at once after progress, later and later without."""
        result = self.result
        result.open = len(stream.open_gaps())
        failures = self.schedule.backfill_failures if self.schedule else 0
        if not result.open:
            PullSchedule.objects.filter(cluster=self.cluster, stream=STREAM).update(progress={})
            _schedule(self.cluster.pk, due_in=None, now=self.now)
            self._publish_done()
            return
        self._store_progress()
        replaced = result.error == SourceReplacedError.code  # the new source continues
        if replaced or (self.minutes and not result.error):
            _schedule(self.cluster.pk, due_in=0, now=self.now)
        elif result.error == ledger_rules.STORE_ERROR:
            # Not the cluster's fault: no back-off.
            wait = float(settings.PULL_INTERVAL_SECONDS)
            _schedule(self.cluster.pk, due_in=wait, now=self.now, failures=failures)
        else:
            wait = back_off_seconds(failures + 1, settings.PULL_INTERVAL_SECONDS)
            _schedule(self.cluster.pk, due_in=wait, now=self.now, failures=failures + 1)
        self._publish_done()

    def _publish_done(self) -> None:
        if self.minutes or self.result.late:
            realtime.publish(self.cluster.pk, "data")

    def _next_longest(self) -> int | None:
        """Return the longest request of the next run in seconds: it grows again after successes."""
        limit = self.connection.limits.longest_request
        if self.longest is None or self.result.error:
            return self.longest
        return None if self.longest * 2 >= limit else self.longest * 2


def _schedule(cluster_id: UUID, *, due_in: float | None, now: float, failures: int = 0) -> None:
    """Store when the next run is due; None: no gap is open."""
    due_at = None if due_in is None else utc_datetime(now + due_in)
    PullSchedule.objects.filter(cluster_id=cluster_id, stream=STREAM).update(
        backfill_due_at=due_at, backfill_failures=failures
    )
