"""What the hub records about tunnels: sign-ins, sessions, their ends, conflicts.

The only writer of :class:`~clusters.models.TunnelSession` and of the tunnel's columns of
:class:`~clusters.models.ClusterStatus`. Ended sessions are history: they stay until the
cluster's retention drops them (``metrics.expire`` bounds them by age, nothing bounds their number).
Every function is synchronous; the hub calls them from a thread of its own, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from clusters import audit
from clusters.models import Cluster, ClusterKey, ClusterStatus, TunnelSession
from clusters.status_summary import refresh_health
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


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A session as the database stores it."""

    id: UUID
    cluster_id: UUID
    fingerprint: str
    hub: str
    state: str
    transport: str
    remote_address: str
    client_version: str
    services: tuple[str, ...]
    connected_at: datetime
    seen_at: datetime
    rtt_ms: float | None


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


def session_opened(facts: SessionFacts) -> None:
    """Record a sign-in and when its key was last used; a repeat changes nothing.

    A cluster that was deleted meanwhile is skipped: the hub cuts its sessions.
    """
    with transaction.atomic():
        if not Cluster.objects.filter(id=facts.cluster_id).exists():
            return
        # A session that speaks is open, whatever was recorded before.
        TunnelSession.objects.update_or_create(
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
                "ended_at": None,
                "end_reason": "",
            },
        )
        ClusterKey.objects.filter(fingerprint=facts.fingerprint).update(
            last_used_at=facts.connected_at
        )
    realtime.publish(facts.cluster_id, "tunnel")


def session_changed(facts: SessionFacts) -> None:
    """Write a session's new state and services; the tunnel is up while one session serves."""
    with transaction.atomic():
        TunnelSession.objects.filter(id=facts.id, ended_at=None).update(
            state=facts.state, services=list(facts.services), seen_at=facts.seen_at
        )
        turned = _refresh_status(facts.cluster_id, at=facts.seen_at, reason="")
    if turned:
        refresh_health(facts.cluster_id)
    realtime.publish(facts.cluster_id, "tunnel")


def session_ready(facts: SessionFacts) -> None:
    """Write that a session serves: it signed in and forwards at least one allowed service."""
    session_changed(facts)


def session_closed(facts: SessionFacts, *, at: datetime, reason: str) -> None:
    """Write a session's end; the tunnel is down when no other session of the cluster serves."""
    with transaction.atomic():
        TunnelSession.objects.filter(id=facts.id, ended_at=None).update(
            state=TunnelSession.State.GONE,
            seen_at=facts.seen_at,
            ended_at=at,
            end_reason=reason[:200],
        )
        turned = _refresh_status(facts.cluster_id, at=at, reason=reason)
    if turned:
        refresh_health(facts.cluster_id)
    realtime.publish(facts.cluster_id, "tunnel")


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
            turned = _refresh_status(row.cluster_id, at=row.seen_at, reason=reason)
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
    return close_sessions(ids, reason="the hub ended without saying so")


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


def flag_conflict(cluster_id: UUID, *, detail: str, at: datetime | None = None) -> None:
    """Mark a cluster whose one identity two processes use, as of the last proof."""
    Cluster.objects.filter(id=cluster_id).update(
        conflict_at=at or timezone.now(), conflict_detail=detail[:500]
    )
    refresh_health(cluster_id)
    realtime.publish(cluster_id, "tunnel")


def _refresh_status(cluster_id: UUID, *, at: datetime, reason: str) -> bool:
    """Bring the cluster's tunnel columns in line with its open sessions.

    ``tunnel_since`` moves only when up turns into down or back, so that a replaced session is
    not an outage.

    Returns:
        Whether the tunnel has just turned from up to down or back.
    """
    up = TunnelSession.objects.filter(
        cluster_id=cluster_id, ended_at=None, state__in=_OPEN_STATES
    ).exists()
    name = Cluster.objects.filter(id=cluster_id).values_list("name", flat=True).first()
    if name is None:
        return False
    status, _ = ClusterStatus.objects.select_for_update().get_or_create(cluster_id=cluster_id)
    changed = status.tunnel_up != up
    if changed:
        if limited.admit(str(cluster_id), Event.TUNNEL):
            state = "up" if up else f"down: {reason or 'no session serves'}"
            logger.info("tunnel of %s is %s", name, state, extra={"cluster": str(cluster_id)})
        status.tunnel_up = up
        status.tunnel_since = at
    if up:
        status.tunnel_seen_at = max(at, status.tunnel_seen_at or at)
        status.tunnel_reason = ""
    elif changed:
        status.tunnel_reason = reason[:200]
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
