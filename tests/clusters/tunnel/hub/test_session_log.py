"""What the hub logs about tunnels."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from clusters import services
from clusters.models import ClusterEvent, ClusterStatus, TunnelSession
from clusters.status_summary import judge_all, refresh_health
from clusters.tunnel.hub import session_log
from clusters.tunnel.hub.pending_writes import SessionFacts, Turn
from tests.factories import ClusterFactory, healthy

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def facts_of(cluster_id: UUID) -> SessionFacts:
    return SessionFacts(
        id=uuid4(), cluster_id=cluster_id, fingerprint="SHA256:none", hub="hub-1", state="ready",
        transport="tcp", remote_address="127.0.0.1", client_version="", services=("agent",),
        connected_at=NOW, seen_at=NOW, rtt_ms=None,
    )  # fmt: skip


def gone(facts: SessionFacts, at: datetime, reason: str) -> SessionFacts:
    return replace(facts, state="gone", ended_at=at, end_reason=reason)


def test_a_tunnel_that_comes_and_goes_is_one_line_each_with_the_name(caplog):
    caplog.set_level(logging.INFO, "clusters.tunnel.hub.session_log")
    cluster = services.create_cluster(name="north", actor="test")
    older, newer = facts_of(cluster.id), facts_of(cluster.id)
    session_log.write_sessions(cluster.id, [older], turn=Turn(up_at=NOW))
    session_log.write_sessions(cluster.id, [newer], turn=Turn())
    session_log.write_sessions(cluster.id, [gone(older, NOW, "replaced")], turn=Turn())
    assert caplog.messages == ["tunnel of north is up"]  # one was there all the time
    reason = "the agent was silent"
    session_log.write_sessions(
        cluster.id, [gone(newer, NOW, reason)], turn=Turn(lost_at=NOW, reason=reason)
    )
    assert caplog.messages[1:] == ["tunnel of north is down: the agent was silent"]


@pytest.mark.parametrize("up", [True, False])
def test_what_a_tunnel_did_between_two_writes_moves_its_since(caplog, up):
    caplog.set_level(logging.INFO, "clusters.tunnel.hub.session_log")
    cluster = services.create_cluster(name="north", actor="test")
    older, newer = facts_of(cluster.id), facts_of(cluster.id)
    before = Turn(up_at=NOW) if up else Turn(lost_at=NOW)
    session_log.write_sessions(cluster.id, [older] if up else [], turn=before)
    first, second = NOW + timedelta(minutes=1), NOW + timedelta(minutes=4)
    if up:
        turn = Turn(lost_at=first, up_at=second, reason="away")
        session_log.write_sessions(cluster.id, [gone(older, first, "away"), newer], turn=turn)
    else:
        turn = Turn(up_at=first, lost_at=second, reason="away")
        session_log.write_sessions(cluster.id, [gone(newer, second, "away")], turn=turn)
    status = ClusterStatus.objects.get(cluster=cluster)
    assert (status.tunnel_up, status.tunnel_since) == (up, second)
    line = "is up again after 180.0 s: away" if up else "is down: away"
    assert caplog.messages[-1] == f"tunnel of north {line}"


def test_a_session_of_another_hub_keeps_the_tunnel_up():
    cluster = services.create_cluster(name="north", actor="test")
    here, there = facts_of(cluster.id), replace(facts_of(cluster.id), hub="hub-2")
    session_log.write_sessions(cluster.id, [there], turn=Turn(up_at=NOW))
    first, second = NOW + timedelta(minutes=1), NOW + timedelta(minutes=4)
    turn = Turn(lost_at=first, up_at=second, reason="away")
    session_log.write_sessions(cluster.id, [here], turn=turn)
    assert ClusterStatus.objects.get(cluster=cluster).tunnel_since == NOW


def test_the_sessions_of_a_deleted_cluster_are_not_written():
    facts = facts_of(uuid4())
    session_log.write_sessions(facts.cluster_id, [facts], turn=Turn(up_at=NOW))
    assert not ClusterStatus.objects.exists()


def test_the_latest_addresses_come_last_and_old_ones_not_at_all():
    cluster = services.create_cluster(name="north", actor="test")
    sessions = [
        replace(facts_of(cluster.id), remote_address=address, connected_at=NOW + timedelta(hours=h))
        for h, address in enumerate(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.2"])
    ]
    session_log.write_sessions(cluster.id, sessions, turn=Turn())
    since = NOW + timedelta(minutes=30)
    assert session_log.recent_addresses(since, 10) == ["10.0.0.3", "10.0.0.2"]
    assert session_log.recent_addresses(since, 1) == ["10.0.0.2"]


def test_a_hub_that_starts_after_another_was_killed_changes_no_state_before_silence_does():
    now = datetime.now(UTC)
    seen = now - timedelta(seconds=40)
    cluster = ClusterFactory(**healthy(now, since=NOW, tunnel_seen_at=seen))
    refresh_health(cluster.pk, now)
    session_log.write_sessions(
        cluster.pk, [replace(facts_of(cluster.pk), seen_at=seen)], turn=Turn(up_at=seen)
    )
    before = list(ClusterEvent.objects.values_list("key", "began_at"))
    assert session_log.close_stale_sessions("hub-1") == 1
    status = ClusterStatus.objects.get(cluster=cluster)
    assert (status.tunnel_up, status.tunnel_since, status.state) == (False, seen, "ok")
    assert TunnelSession.objects.get().ended_at == seen
    judge_all(seen + timedelta(seconds=60))
    assert list(ClusterEvent.objects.values_list("key", "began_at")) == before
    judge_all(seen + timedelta(seconds=61))
    status.refresh_from_db()
    assert (status.state, status.since) == ("unknown", seen)
