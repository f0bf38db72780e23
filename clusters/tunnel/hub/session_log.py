"""What the hub records about tunnels: sign-ins, sessions, their ends, conflicts.

The only writer of :class:`~clusters.models.TunnelSession` and of the tunnel's columns of
:class:`~clusters.models.ClusterStatus`. Ended sessions are history, of which
:mod:`clusters.session_history` keeps the newest of each cluster. Every function is synchronous;
the hub calls them from threads of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from clusters import audit
from clusters.health_facts import HUB_KILLED
from clusters.models import Cluster, ClusterKey, ClusterStatus, TunnelSession
from clusters.status_summary import refresh_health
from clusters.tunnel.hub.pending_writes import SessionFacts, Turn
from clusters.tunnel.hub.refusals import Event, Refusal
from opscenter.core import realtime
from opscenter.core.log_limits import RateLimitedLog

logger = logging.getLogger(__name__)
limited = RateLimitedLog(sources=10_000, lines=6)
"""Limits the lines of clusters that signed in: there are as many as there are clusters."""

_OPEN_STATES = ("ready", "suspect")


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a key may sign in as a cluster, and what the cluster may forward then."""

    allowed: bool
    reason: Refusal | None  # why not; None when allowed
    services: frozenset[str] = frozenset()


def find_key(cluster_id: UUID, fingerprint: str) -> bool:
    """Return whether this key may sign in as this cluster now."""
    return admit(cluster_id, fingerprint).allowed


def admit(cluster_id: UUID, fingerprint: str) -> Admission:
    """Look up a sign-in by its key; the key decides, the user name must agree. One query."""
    key = ClusterKey.objects.select_related("cluster").filter(fingerprint=fingerprint).first()
    if key is None:
        return Admission(allowed=False, reason=Refusal.NOT_REGISTERED)
    if key.cluster_id != cluster_id:
        return Admission(allowed=False, reason=Refusal.OTHER_CLUSTER)
    if key.cluster.status == Cluster.Status.REVOKED:
        return Admission(allowed=False, reason=Refusal.CLUSTER_REVOKED)
    if key.status != ClusterKey.Status.ACTIVE:
        retired = key.status == ClusterKey.Status.RETIRED
        reason = Refusal.KEY_RETIRED if retired else Refusal.KEY_REVOKED
        return Admission(allowed=False, reason=reason)
    return Admission(allowed=True, reason=None, services=frozenset(key.cluster.allowed_services))


def admissions(fingerprints: Iterable[str]) -> dict[str, tuple[UUID, frozenset[str]]]:
    """Return which of these keys may be signed in now: fingerprint -> cluster id, services.

    One query for all live sessions; a key that is missing from the answer must be cut.
    """
    keys = ClusterKey.objects.filter(
        fingerprint__in=list(fingerprints), status=ClusterKey.Status.ACTIVE
    ).exclude(cluster__status=Cluster.Status.REVOKED)
    return {
        key.fingerprint: (key.cluster_id, frozenset(key.cluster.allowed_services))
        for key in keys.select_related("cluster")
    }


def cluster_exists(cluster_id: UUID) -> bool:
    """Return whether there is such a cluster, connected or not."""
    return Cluster.objects.filter(id=cluster_id).exists()


def recent_addresses(since: datetime, limit: int) -> list[str]:
    """Return the addresses from which keys signed in since a time: the newest, the oldest first."""
    rows = TunnelSession.objects.filter(connected_at__gte=since).order_by("-connected_at")
    addresses = dict.fromkeys(rows.values_list("remote_address", flat=True)[:limit])
    return list(reversed(addresses))


def write_sessions(
    cluster_id: UUID,
    sessions: Sequence[SessionFacts],
    *,
    turn: Turn,
    conflict: tuple[datetime, str] | None = None,
) -> None:
    """Write the newest facts of some of a cluster's sessions; a repeat changes nothing.

    A cluster that was deleted meanwhile is skipped: the hub cuts its sessions.

    Args:
        cluster_id: the cluster.
        sessions: open and ended ones.
        turn: when its tunnel came and went since the last write.
        conflict: since when it is proven that two processes use its identity, and how.
    """
    with transaction.atomic():
        if not Cluster.objects.filter(id=cluster_id).exists():
            return
        for facts in sessions:
            _write_session(facts)
        if conflict is not None:
            Cluster.objects.filter(id=cluster_id).update(
                conflict_at=conflict[0], conflict_detail=conflict[1][:500]
            )
        turned = _refresh_status(cluster_id, sessions, turn)
    if turned or conflict is not None:
        refresh_health(cluster_id)
    realtime.publish(cluster_id, "tunnel")


def _write_session(facts: SessionFacts) -> None:
    """Write one session, and when its key was last used if it is new."""
    # A session that speaks is open, whatever was recorded before.
    _, created = TunnelSession.objects.update_or_create(
        id=facts.id,
        defaults={
            "cluster_id": facts.cluster_id,
            "hub": facts.hub,
            "state": facts.state,
            "transport": facts.transport,
            "remote_address": facts.remote_address,
            "client_version": facts.client_version,
            "services": list(facts.services),
            "connected_at": facts.connected_at,
            "seen_at": facts.seen_at,
            "rtt_ms": facts.rtt_ms,
            "ended_at": facts.ended_at,
            "end_reason": facts.end_reason[:200],
        },
    )
    if created:
        ClusterKey.objects.filter(fingerprint=facts.fingerprint).update(
            last_used_at=facts.connected_at
        )


def sessions_seen(hub: str, seen: Mapping[UUID, tuple[UUID, datetime, float | None]]) -> set[UUID]:
    """Write when live sessions last spoke: two statements for all of them, and one look-up.

    Args:
        hub: name of the hub that holds the sessions.
        seen: session id -> cluster id, time of the last sign of life, round trip in ms or None.
            Of two sessions of one cluster the later entry is the cluster's.

    Returns:
        The ids of this hub's open sessions in the database: one that is missing there was never
        written, one that the hub does not know has ended unnoticed.
    """
    session_rows = [(id_, at, rtt) for id_, (_, at, rtt) in seen.items()]
    status_rows = {cluster_id: (at, rtt) for cluster_id, at, rtt in seen.values()}
    with transaction.atomic():
        _write_seen("clusters_tunnelsession", ("seen_at", "rtt_ms", "id"), session_rows)
        _write_seen(
            "clusters_clusterstatus",
            ("tunnel_seen_at", "tunnel_rtt_ms", "cluster_id"),
            [(cluster_id, at, rtt) for cluster_id, (at, rtt) in status_rows.items()],
        )
        open_sessions = TunnelSession.objects.filter(hub=hub, ended_at=None)
        return set(open_sessions.values_list("id", flat=True))


def close_sessions(ids: Iterable[UUID], *, reason: str) -> int:
    """End open sessions at the time they were last seen.

    Returns:
        How many were open.
    """
    rows = list(TunnelSession.objects.filter(id__in=list(ids), ended_at=None))
    for row in rows:
        with transaction.atomic():
            TunnelSession.objects.filter(id=row.id).update(
                state=TunnelSession.State.GONE, ended_at=row.seen_at, end_reason=reason
            )
            turned = _refresh_status(row.cluster_id, [], Turn(lost_at=row.seen_at, reason=reason))
        if turned:
            refresh_health(row.cluster_id)
        realtime.publish(row.cluster_id, "tunnel")
    return len(rows)


def close_stale_sessions(hub: str) -> int:
    """End what an earlier process of this hub left open when it was killed.

    Returns:
        How many sessions there were.
    """
    ids = list(TunnelSession.objects.filter(hub=hub, ended_at=None).values_list("id", flat=True))
    return close_sessions(ids, reason=HUB_KILLED)


def sign_in_refused(*, user: str, address: str, reason: str) -> None:
    """Write a refused sign-in to the audit log.

    The name is only what the peer claims, so it is a detail and not the line's cluster.
    """
    audit.record(
        "agent.sign_in",
        actor=f"agent {address}",
        ok=False,
        detail={"user": user, "address": address, "reason": reason},
    )


def _refresh_status(cluster_id: UUID, sessions: Sequence[SessionFacts], turn: Turn) -> bool:
    """Bring the cluster's tunnel columns in line with its open sessions.

    ``tunnel_since`` moves only when up turns into down or back, so that a replaced session is
    not an outage. A tunnel that went and came back between two writes has turned twice.

    Returns:
        Whether the tunnel has turned from up to down or back.
    """
    name = Cluster.objects.filter(id=cluster_id).values_list("name", flat=True).first()
    if name is None:
        return False
    serving = TunnelSession.objects.filter(
        cluster_id=cluster_id, ended_at=None, state__in=_OPEN_STATES
    )
    up = serving.exists()
    status, _ = ClusterStatus.objects.select_for_update().get_or_create(cluster_id=cluster_id)
    changed = status.tunnel_up != up or _turned_twice(turn, serving, sessions, up=up)
    seen_at = max((one.seen_at for one in sessions), default=None)
    if changed:
        if limited.admit(str(cluster_id), Event.TUNNEL):
            _log_turn(cluster_id, name, turn, up=up, was_up=status.tunnel_up)
        status.tunnel_since = (turn.up_at if up else turn.lost_at) or seen_at or timezone.now()
        status.tunnel_up = up
    if up:
        status.tunnel_seen_at = max(filter(None, (seen_at, status.tunnel_seen_at)), default=None)
        status.tunnel_reason = ""
    elif changed:
        status.tunnel_reason = (turn.reason or "no session serves")[:200]
        status.tunnel_rtt_ms = None
    status.save(
        update_fields=[
            "tunnel_up",
            "tunnel_since",
            "tunnel_seen_at",
            "tunnel_reason",
            "tunnel_rtt_ms",
        ]
    )
    return changed


def _turned_twice(
    turn: Turn,
    serving: QuerySet[TunnelSession],
    sessions: Sequence[SessionFacts],
    *,
    up: bool,
) -> bool:
    """Return whether the tunnel was away, or up, between two writes.

    Another hub's session may have served meanwhile: then it was up all the time.
    """
    if turn.up_at is None or turn.lost_at is None:
        return False
    hubs = {one.hub for one in sessions}
    elsewhere = up and serving.exclude(hub__in=hubs).exists()
    return (turn.lost_at <= turn.up_at) == up and not elsewhere


def _log_turn(cluster_id: UUID, name: str, turn: Turn, *, up: bool, was_up: bool) -> None:
    """Write one line for what a tunnel did."""
    extra = {"cluster": str(cluster_id)}
    reason = turn.reason or "no session serves"
    if up and was_up and turn.up_at is not None and turn.lost_at is not None:
        away = (turn.up_at - turn.lost_at).total_seconds()
        logger.info("tunnel of %s is up again after %.1f s: %s", name, away, reason, extra=extra)
    elif up:
        logger.info("tunnel of %s is up", name, extra=extra)
    else:
        logger.info("tunnel of %s is down: %s", name, reason, extra=extra)


def _write_seen(
    table: str, columns: tuple[str, str, str], rows: Sequence[tuple[UUID, datetime, float | None]]
) -> None:
    """Run one prepared UPDATE over many rows.

    ``bulk_update`` would build one CASE of all rows for each column.

    Args:
        table: name of the table in the database.
        columns: names of the columns of the time, the round trip and the key.
        rows: (key, time seen, round trip in ms or None) of each row; may be empty.
    """
    if not rows:
        return
    seen_at, rtt_ms, key = (connection.ops.quote_name(column) for column in columns)
    sql = (
        f"UPDATE {connection.ops.quote_name(table)} "  # noqa: S608 - names come from the models
        f"SET {seen_at} = %s, {rtt_ms} = %s WHERE {key} = %s"
    )
    native = connection.features.has_native_uuid_field
    with connection.cursor() as cursor:
        cursor.executemany(
            sql,
            [
                (
                    connection.ops.adapt_datetimefield_value(at),
                    rtt,
                    id_ if native else id_.hex,
                )
                for id_, at, rtt in rows
            ],
        )
