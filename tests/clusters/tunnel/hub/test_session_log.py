"""What the hub logs about tunnels."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from clusters import services
from clusters.tunnel.hub import session_log
from clusters.tunnel.hub.session_log import SessionFacts

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def facts_of(cluster_id: UUID) -> SessionFacts:
    return SessionFacts(
        id=uuid4(), cluster_id=cluster_id, fingerprint="SHA256:none", hub="hub-1", state="ready",
        transport="tcp", remote_address="127.0.0.1", client_version="", services=("agent",),
        connected_at=NOW, seen_at=NOW, rtt_ms=None,
    )  # fmt: skip


def test_a_tunnel_that_comes_and_goes_is_one_line_each_with_the_name(caplog):
    caplog.set_level(logging.INFO, "clusters.tunnel.hub.session_log")
    cluster = services.create_cluster(name="north", actor="test")
    older, newer = facts_of(cluster.id), facts_of(cluster.id)
    for facts in (older, newer):
        session_log.session_opened(facts)
        session_log.session_ready(facts)
    session_log.session_closed(older, at=NOW, reason="a newer session took over")
    assert caplog.messages == ["tunnel of north is up"]  # one was there all the time
    session_log.session_closed(newer, at=NOW, reason="the agent was silent")
    assert caplog.messages[1:] == ["tunnel of north is down: the agent was silent"]
