"""A live pull of one cluster: fetch the newest minutes, store them, update the cluster's status.

A live pull covers the time from the head to the last closed minute. What an outage left in between
is written to the ledger as gaps in the same transaction, and :mod:`metrics.pulling.backfill`
requests it separately, so that the live view never waits for the past. ``now`` is Unix seconds and
may be set by tests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from clusters.conditions import Condition, conditions_of
from clusters.health import LARGEST_SKEW_MS
from clusters.models import Cluster, ClusterStatus
from clusters.node_inventory import SeenNode
from clusters.status_summary import PullFacts, record_pull, record_pull_failure
from metrics.connections.connect import Connect, SourceConnection, connection_to
from metrics.connections.refused_values import count_refused
from metrics.connections.source_limits import SourceLimits
from metrics.models import PullSchedule
from metrics.pulling import ledger, ledger_rules
from metrics.pulling.etcd import Supplement, with_stored
from metrics.pulling.frozen import LOOK_BACK_SECONDS, frozen_since, newest_uptimes, witness
from metrics.pulling.ledger_facts import SourceReplacedError, outage_of
from metrics.pulling.schedule import back_off_seconds
from metrics.pulling.since import date_conditions, date_nodes
from metrics.pulling.stream import CLUSTER_KEY, LOCK_WAIT_SECONDS, Stream
from metrics.pulling.summary import (
    HISTORY_MINUTES,
    Context,
    cpu_history,
    newest_minute,
    pull_facts,
)
from metrics.pulling.time_bounds import Rejected, ahead_note, within_bounds
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE, STREAM, floor_minute, utc_datetime
from metrics.sources.parse_concurrency import ParseSlot
from metrics.stores import StoreError, get_store
from opscenter.core import leases, realtime
from opscenter.core.errors import ClusterError, ClusterUnreachableError, GatewayDownError
from opscenter.core.single_row import single
from opscenter.core.text import one_line

logger = logging.getLogger(__name__)

LEASE_MARGIN_SECONDS = 10
MAX_NOTES = 8
FIRST_MINUTE_GRACE_SECONDS = 4  # after its end; agents serve a minute 2 s after it


@dataclass(frozen=True, slots=True)
class PullResult:
    """The outcome of a pull.

    ``skipped`` means that nothing was tried: another worker holds the lease, or the cluster must
    not be pulled. ``code`` and ``message`` are the error's, or why it was skipped.
    """

    outcome: Literal["ok", "failed", "skipped"]
    code: str = ""
    message: str = ""
    rows: int = 0
    start: int = 0
    end: int = 0
    gaps_open: bool = False


def pull_cluster(
    cluster_id: UUID, now: float | None = None, *, connect: Connect | None = None
) -> PullResult:
    """Pull one cluster once, unless another worker is pulling it.

    A failure of the cluster is recorded, not raised. While the hub reports that the tunnel is down,
    the outage is recorded without an attempt.

    Args:
        cluster_id: the cluster's id.
        now: current Unix time in seconds; None reads the clock.
        connect: opens the client instead of the tunnel, for tests; None for the tunnel.

    Raises:
        redis.RedisError: Redis cannot grant the lease; nothing was tried.
    """
    ttl = settings.PULL_DEADLINE_SECONDS + LOCK_WAIT_SECONDS + LEASE_MARGIN_SECONDS
    with leases.hold(f"pull:{cluster_id}:{STREAM}", ttl) as held:
        if not held:
            return PullResult("skipped", "busy", "another worker pulls this cluster")
        schedule = _schedule_of(cluster_id, time.time() if now is None else now)
        if schedule is None:
            return PullResult("skipped", "not_active", "the cluster is not enrolled, or gone")
        with ParseSlot("live") as slot:
            now = time.time() if now is None else now
            return _Pull(schedule.cluster, schedule, now, connect, slot).run()


def to_pull(cluster_id: UUID) -> Cluster | None:
    """Return an enrolled cluster with its status; None for pending, revoked and deleted ones."""
    return single(
        Cluster.objects.select_related("current").filter(
            pk=cluster_id, status=Cluster.Status.ACTIVE, current__isnull=False
        )
    )


def _schedule_of(cluster_id: UUID, now: float) -> PullSchedule | None:
    """Return the schedule of an enrolled cluster, with cluster and status; None for others.

    One query; more before the first pull.
    """
    known = single(
        PullSchedule.objects.select_related("cluster__current")
        .filter(cluster_id=cluster_id, stream=STREAM)
        .filter(cluster__status=Cluster.Status.ACTIVE, cluster__current__isnull=False)
    )
    cluster = to_pull(cluster_id) if known is None else known.cluster
    if known is not None or cluster is None:
        return known
    schedule, _ = PullSchedule.objects.get_or_create(
        cluster=cluster, stream=STREAM, defaults={"due_at": utc_datetime(now)}
    )
    schedule.cluster = cluster
    return schedule


@dataclass(slots=True)
class _Pull:
    """The steps of one live pull."""

    cluster: Cluster
    schedule: PullSchedule
    now: float
    connect: Connect | None
    slot: ParseSlot
    limits: SourceLimits = field(default_factory=SourceLimits)

    def run(self) -> PullResult:
        """Fetch, store and record; a failure of the cluster or the store becomes a result."""
        stream = Stream(get_store(), self.cluster.pk, STREAM)
        started = time.monotonic()
        try:
            self._check_tunnel()
            if self.schedule.error_code == ledger_rules.STORE_ERROR:
                stream.store.ping()  # so that no cluster is queried while it is down
            connection = connection_to(self.cluster, self.schedule, self.connect)
            self.limits = connection.limits
            start, end = ledger_rules.live_range(
                stream.position().head,
                self.now - connection.limits.settle_seconds,
                connection.limits.overlap_seconds,
            )
            answer = self._fetch(connection, start, end)
            elapsed = self.slot.answered_at - started
            skew_ms = round(1000 * (answer.now - self.now - elapsed))
            answer, rejected = within_bounds(answer, self.now)
            if connection.limits.overlap_seconds:
                answer = with_stored(stream.store, self.cluster.pk, answer)
            gaps_open = ledger.store_live(
                stream, answer, self.now,
                lambda since, until: outage_of(self.cluster, self.schedule, since, until),
                connection.limits,
            )  # fmt: skip
        except ClusterError as exc:
            return self._failed(stream, exc)
        except SourceReplacedError as exc:
            return PullResult("skipped", exc.code, str(exc))
        except (StoreError, leases.LeaseTimeoutError) as exc:
            # Our failure, not the cluster's: the next pull writes the same again.
            logger.error("cluster %s: the pull was not stored: %s", self.cluster, exc)
            # No more than this: the error names addresses and files.
            message = "Ops Center could not store it; its log says why"
            return self._record_failure(ledger_rules.STORE_ERROR, message)
        self._count_rejected(rejected)
        count_refused(self.cluster.pk, answer, self.now)
        self._succeeded(stream, answer, skew_ms, started, gaps_open=gaps_open)
        return PullResult(
            "ok", rows=len(answer.rows), start=answer.start, end=answer.end, gaps_open=gaps_open
        )

    def _fetch(self, connection: SourceConnection, start: int, end: int) -> SourceAnswer:
        """Fetch from the source, and first from etcd if it is set; the slot is held on return."""
        etcd = Supplement(connection.etcd, self.cluster) if connection.etcd is not None else None
        reading = asyncio.run(etcd.read(self.now)) if etcd is not None else None
        seconds = settings.PULL_DEADLINE_SECONDS
        answer = connection.fetch(start, end, self.now, self.slot, seconds=seconds)
        return answer if etcd is None else etcd.merged(answer, reading)

    def _check_tunnel(self) -> None:
        current: ClusterStatus = self.cluster.current
        if not current.tunnel_up:
            reason = f": {current.tunnel_reason}" if current.tunnel_reason else ""
            msg = f"the tunnel of {self.cluster.name} is down{reason}"
            raise ClusterUnreachableError(msg)

    def _succeeded(
        self,
        stream: Stream,
        answer: SourceAnswer,
        skew_ms: int,
        started: float,
        *,
        gaps_open: bool,
    ) -> None:
        newest = newest_minute(answer)
        now = utc_datetime(self.now)
        facts = self._facts(stream, answer, newest, skew_ms)
        changes: dict[str, object] = {
            "last_attempt_at": now,
            "last_ok_at": now,
            "failures": 0,
            "error_code": "",
            "duration_ms": 1000 * (time.monotonic() - started),
            "notes": self._notes(answer),
        }
        if self.limits.late and self.schedule.recheck_due_at is None:
            changes["recheck_due_at"] = now
        if newest is None and stream.position().head is None:
            # A new agent's first minute is on its way: do not wait for the interval.
            first_minute_end = floor_minute(self.now) + MINUTE
            changes["due_at"] = utc_datetime(first_minute_end + FIRST_MINUTE_GRACE_SECONDS)
        if gaps_open and (self.schedule.backfill_due_at is None or self.schedule.error_code):
            changes |= {"backfill_due_at": now, "backfill_failures": 0}
        with transaction.atomic():
            record_pull(self.cluster.pk, facts, now=now)
            PullSchedule.objects.filter(pk=self.schedule.pk).update(**changes)
        realtime.publish(self.cluster.pk, "data")

    def _facts(
        self,
        stream: Stream,
        answer: SourceAnswer,
        newest: int | None,
        skew_ms: int,
    ) -> PullFacts:
        """Return what the answer says about the cluster, each thing that is off with its since."""
        current: ClusterStatus = self.cluster.current
        recorded = conditions_of(current.conditions)
        context = Context(
            frozen_at=None if newest is None else _frozen_at(stream, answer, newest),
            source=self.limits.source.partition(" ")[0],
            clock_skew_ms=max(-LARGEST_SKEW_MS, min(LARGEST_SKEW_MS, skew_ms)),
            recorded=recorded,
            had_numbers=current.cpu_mc is not None or current.mem_ws is not None,
            judge_all_filesystems=settings.JUDGE_ALL_FILESYSTEMS,
        )
        history = [] if newest is None else _history(stream, newest + MINUTE)
        facts = pull_facts(answer, history, context)
        # The clock is taken into account by data_as_of, so only the source's own delay is left.
        settle = self.limits.settle_seconds - self.limits.behind_seconds
        if newest is None:
            return replace(facts, settle_seconds=settle)
        where = (newest + MINUTE, context.skew_seconds)
        nodes = [_with_since(node, recorded) for node in facts.nodes]
        store, cluster = stream.store, self.cluster.pk
        return replace(
            facts,
            settle_seconds=settle,
            nodes=date_nodes(store, cluster, nodes, *where),
            conditions=date_conditions(store, cluster, facts.conditions, *where),
        )

    def _notes(self, answer: SourceAnswer) -> list[str]:
        ahead = ahead_note(answer, self.now)
        notes = [*([ahead] if ahead else []), *answer.notes]
        return [one_line(note, 200) for note in notes[:MAX_NOTES]]

    def _count_rejected(self, rejected: Rejected | None) -> None:
        """Store how many rows were far off in time, for the page and the API."""
        if rejected is None:
            return
        logger.warning("cluster %s: %s", self.cluster, rejected.text)
        PullSchedule.objects.filter(pk=self.schedule.pk).update(
            rejected_rows=F("rejected_rows") + rejected.rows,
            rejected_at=utc_datetime(self.now),
            rejected_detail=rejected.text,
        )

    def _failed(self, stream: Stream, error: ClusterError) -> PullResult:
        head = stream.position().head
        if head is not None:
            outage = outage_of(self.cluster, self.schedule, head, int(self.now))
            try:
                ledger.store_missed(stream, error, self.now, outage, self.limits)
            except (StoreError, leases.LeaseTimeoutError):
                # The next pull writes the same windows; the error itself is recorded below.
                logger.exception("cluster %s: the outage was not recorded", self.cluster)
        return self._record_failure(error.code, str(error), error.name)

    def _record_failure(self, code: str, message: str, name: str = "") -> PullResult:
        now = utc_datetime(self.now)
        changes: dict[str, object] = {"last_attempt_at": now, "error_code": code}
        if code in (ClusterUnreachableError.code, GatewayDownError.code, ledger_rules.STORE_ERROR):
            # When the tunnel returns, the pull is due at once, and the next pull finds out when our
            # store does: backing off from the cluster would not help.
            changes["failures"] = 0
        else:
            failures = self.schedule.failures + 1
            wait = back_off_seconds(failures, settings.PULL_INTERVAL_SECONDS)
            due_at = max(self.schedule.due_at, now + timedelta(seconds=wait))
            changes |= {"failures": failures, "due_at": due_at}
        with transaction.atomic():
            record_pull_failure(self.cluster.pk, code=name or code, message=message, now=now)
            PullSchedule.objects.filter(pk=self.schedule.pk).update(**changes)
        realtime.publish(self.cluster.pk, "data")
        return PullResult("failed", code, message)


def _frozen_at(stream: Stream, answer: SourceAnswer, newest: int) -> int | None:
    """Return from which minute on the values only repeat; None if they do not.

    An answer has one minute or two, as a rule: too few to tell a loop from a machine that runs.
    One node's stored half hour does so in one small read, those of all nodes only if it repeats.
    """
    uptimes = newest_uptimes(answer.rows)
    node = witness(uptimes)
    if node is None:
        return None
    start, end = newest - LOOK_BACK_SECONDS, newest + MINUTE
    known = stream.store.read_fields(stream.cluster, node, ("uptime_s",), "1m", start, end)
    if frozen_since({node: uptimes[node]}, {node: known["uptime_s"]}) is None:
        return None
    stored = stream.store.read_many(stream.cluster, "node", "uptime_s", "1m", start, end)
    return frozen_since(uptimes, stored)


def _with_since(node: SeenNode, recorded: Sequence[Condition]) -> SeenNode:
    """Return a node with the since that the pull before found for it."""
    for one in recorded:
        if one.what == "not_ready" and one.node == node.name and node.ready is False:
            return replace(node, since=one.since, at_least=one.at_least)
    return node


def _history(stream: Stream, end: int) -> list[int | None]:
    """Return the last hour's CPU usage for the sparkline; one read of the store."""
    start = end - HISTORY_MINUTES * MINUTE
    minutes = stream.store.read_fields(
        stream.cluster, CLUSTER_KEY, ("cpu_mc", "cpu_cap_mc"), "1m", start, end
    )
    return cpu_history(minutes["cpu_mc"], minutes["cpu_cap_mc"], end)
