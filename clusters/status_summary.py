"""Record what pulls learn about a cluster, and every change of its health.

The hub writes the tunnel's columns of :class:`~clusters.models.ClusterStatus`, this module the
others. The health is recorded when it changes, with the row locked, so that ``since`` and ``was``
are those of the first process that saw the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from django.db import transaction

from clusters.conditions import MAX_CONDITIONS, Condition, by_key, conditions_of
from clusters.health import Health
from clusters.health_history import findings_differ, is_due, write_history
from clusters.health_json import MAX_FINDINGS, finding_as_json, findings_of
from clusters.models import Cluster, ClusterStatus
from clusters.node_inventory import SeenNode, Silence, stock_of, take_stock
from clusters.selectors import judged
from clusters.status_numbers import NUMBERS, StatusNumbers
from opscenter.core import realtime
from opscenter.core.ages import age_seconds
from opscenter.core.single_row import single
from opscenter.core.text import one_line

MAX_NODES_NAMED = 10
MAX_HISTORY = 60
_LONGEST_NAME = 300
_HEALTH_COLUMNS = ("state", "since", "was", "reason", "findings", "history_day")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullFacts(StatusNumbers):
    """What one good pull says about a cluster, as of its newest minute.

    With ``data_as_of`` None, or older than what is recorded (a gap was filled), only the pull's
    success is recorded.
    """

    data_as_of: datetime | None = None  # end of the newest minute, by our clock
    stands_still: bool = False  # the values only repeat; data_as_of is that of the first of them
    nodes: Sequence[SeenNode] = ()  # of the newest minute; they are counted when it is recorded
    lists_nodes: bool = False  # whether that is a list of what should be there
    silence: Silence = "unknown"  # what it means that a node does not say whether it is ready
    source: str = ""  # kind of the source
    conditions: Sequence[Condition] = ()  # of everything but the nodes' readiness
    collector_error: str = ""  # why the source sees nothing of its cluster, "" if it sees
    agent_version: str = ""  # "" leaves what is recorded
    kind: str = ""  # "host" or "kubernetes"; "" leaves what is recorded
    clock_skew_ms: int | None = None  # the source's clock minus ours
    settle_seconds: int = 0  # until a minute is complete at the source


def record_pull(cluster_id: UUID, facts: PullFacts, now: datetime | None = None) -> Health | None:
    """Record a good pull and judge the cluster anew.

    Publishes ``health`` if the health changed; the caller publishes ``data``.

    Returns:
        The health from now on; None if the cluster was deleted meanwhile.
    """
    now = now or datetime.now(UTC)
    with transaction.atomic(savepoint=False):  # the caller's fails with it
        cluster = _locked(cluster_id)
        if cluster is None:
            return None
        current = cluster.current
        current.last_pull_at = current.last_pull_ok_at = now
        current.pull_error_code = current.pull_error = ""
        current.pull_failures = 0
        current.clock_skew_ms = facts.clock_skew_ms
        current.settle_seconds = facts.settle_seconds
        current.collector_error = one_line(facts.collector_error, 500)
        columns = ["last_pull_at", "last_pull_ok_at", "pull_error_code", "pull_error",
                   "pull_failures", "clock_skew_ms", "settle_seconds",
                   "collector_error"]  # fmt: skip
        as_of = _as_of(facts, current, now)
        if as_of is not None:
            columns += _take_summary(cluster, facts, as_of)
        current.save(update_fields=columns)
        _take_agent(cluster, facts)
        return _record_health(cluster, now)


def record_pull_failure(
    cluster_id: UUID, *, code: str, message: str, now: datetime | None = None
) -> Health | None:
    """Record why a pull failed and judge the cluster anew.

    Args:
        cluster_id: the cluster that was pulled.
        code: a stable word for the error, at most 30 characters, e.g. ``tunnel_down`` or
            ``credentials_refused``.
        message: the error in a sentence; control characters are removed, and it is cut at 500.
        now: time of the pull, aware; the current time if None.

    Returns:
        The health from now on; None if the cluster was deleted meanwhile.
    """
    now = now or datetime.now(UTC)
    with transaction.atomic():
        cluster = _locked(cluster_id)
        if cluster is None:
            return None
        current = cluster.current
        current.last_pull_at = now
        current.pull_error_code = code[:30]
        current.pull_error = one_line(message, 500) or code[:30]
        current.pull_failures += 1
        current.save(
            update_fields=["last_pull_at", "pull_error_code", "pull_error", "pull_failures"]
        )
        return _record_health(cluster, now)


def refresh_health(cluster_id: UUID, now: datetime | None = None) -> Health | None:
    """Judge one cluster and record the result; for writers of the tunnel's columns.

    Returns:
        The health from now on; None if there is no such cluster.
    """
    with transaction.atomic():
        cluster = _locked(cluster_id)
        return None if cluster is None else _record_health(cluster, now or datetime.now(UTC))


def judge_all(now: datetime | None = None) -> int:
    """Record the changes that time alone causes (silence, old data); return how many.

    One query, and one short transaction for each cluster that changed.
    """
    now = now or datetime.now(UTC)
    changed = [
        cluster.pk
        for cluster in Cluster.objects.select_related("current").iterator(chunk_size=500)
        if hasattr(cluster, "current") and _is_news(cluster, judged(cluster, now)[1], now)
    ]
    for cluster_id in changed:
        refresh_health(cluster_id, now)
    return len(changed)


def recorded_health(current: ClusterStatus) -> Health:
    """Return the health that the row holds."""
    return Health(
        current.state,  # type: ignore[arg-type]
        current.since,
        current.was,
        current.reason,
        findings_of(current.findings),
    )


def _locked(cluster_id: UUID) -> Cluster | None:
    """Return a cluster with its status row locked until the transaction ends."""
    current = single(
        ClusterStatus.objects.select_for_update(of=("self",))
        .select_related("cluster")
        .filter(cluster_id=cluster_id)
    )
    if current is None:
        return None
    cluster = current.cluster
    cluster.current = current
    return cluster


def _as_of(facts: PullFacts, current: ClusterStatus, now: datetime) -> datetime | None:
    """Return the time of facts that replace what is recorded; None if they do not.

    What is recorded may have been dated by a wrong clock, or be what is now known to only repeat:
    that never makes the data newer, however long it goes on.
    """
    as_of, recorded = facts.data_as_of, current.data_as_of
    if as_of is None or recorded is None or age_seconds(recorded, now) is None:
        return as_of
    if facts.stands_still:
        return min(as_of, recorded)
    return as_of if as_of >= recorded else None


def _take_summary(cluster: Cluster, facts: PullFacts, as_of: datetime) -> list[str]:
    """Copy the numbers of the newest minute into the row; return the columns that it set."""
    current = cluster.current
    counts = take_stock(
        cluster, facts.nodes, as_of,
        listed=facts.lists_nodes, source=facts.source, silence=facts.silence,
        stock=stock_of(current),
    )  # fmt: skip
    current.data_as_of = as_of
    current.stock = None if counts.stock is None else counts.stock.as_json()
    for name in NUMBERS:
        value = getattr(facts, name)
        setattr(current, name, one_line(value, _LONGEST_NAME) if isinstance(value, str) else value)
    current.nodes_total, current.nodes_ready = counts.total, counts.ready
    current.nodes_unknown = counts.unknown
    current.nodes_not_ready = [one_line(name, 253) for name in counts.not_ready][:MAX_NODES_NAMED]
    current.cpu_history = list(facts.cpu_history)[-MAX_HISTORY:]
    conditions = [
        condition.as_json()
        for condition in _dated([*counts.conditions, *facts.conditions], current, as_of)
    ]
    current.conditions = conditions or None
    return ["data_as_of", "conditions", "stock", *NUMBERS]


def _dated(
    conditions: Sequence[Condition], current: ClusterStatus, as_of: datetime
) -> list[Condition]:
    """Return conditions with a since: their own, the recorded one, or that of this minute."""
    recorded = by_key(conditions_of(current.conditions))
    dated = []
    for one in conditions[:MAX_CONDITIONS]:
        before = recorded.get(one.key)
        if one.since is not None:
            dated.append(one)
        elif before is not None and before.what == one.what and before.since is not None:
            dated.append(replace(one, since=before.since, at_least=before.at_least))
        else:
            dated.append(replace(one, since=as_of))
    return dated


def _take_agent(cluster: Cluster, facts: PullFacts) -> None:
    """Store the agent's version and kind if they changed."""
    version = one_line(facts.agent_version, 40) or cluster.agent_version
    kind = one_line(facts.kind, 20) or cluster.kind
    if (version, kind) != (cluster.agent_version, cluster.kind):
        cluster.agent_version, cluster.kind = version, kind
        cluster.save(update_fields=["agent_version", "kind"])


def _is_news(cluster: Cluster, health: Health, now: datetime) -> bool:
    """Return whether there is something to record: of the health, or of its history."""
    recorded = recorded_health(cluster.current)
    return health != recorded or findings_differ(health, recorded) or is_due(cluster.current, now)


def _record_health(cluster: Cluster, now: datetime) -> Health:
    """Write the health and its history if it changed, and tell the open pages after the commit."""
    current = cluster.current
    facts, health = judged(cluster, now)
    if not _is_news(cluster, health, now):
        return health
    current.state, current.since = health.state, health.since
    current.was, current.reason = health.was, health.reason
    found = [finding_as_json(finding) for finding in health.findings[:MAX_FINDINGS]]
    current.findings = found or None
    write_history(cluster, health, facts, now)
    current.save(update_fields=_HEALTH_COLUMNS)
    realtime.publish_on_commit(cluster.pk, "health")
    return health
