"""A source that replays what it once read under new times is not up to date."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from clusters.models import ClusterStatus
from metrics.pulling.pull import pull_cluster
from tests.metrics.conftest import status_of
from tests.metrics.pulling.spooled import SpooledAgent, at


def pull_after(agent: SpooledAgent, cluster, minute: int) -> ClusterStatus:
    """Pull once a minute is served; return what is recorded of the cluster then."""
    agent.now = at(minute + 1.1)
    ClusterStatus.objects.update(tunnel_seen_at=datetime.fromtimestamp(agent.now, UTC))
    assert pull_cluster(cluster.pk, agent.now).outcome == "ok"
    return status_of(cluster)


@pytest.mark.parametrize("length", [2, 4, 7])
def test_minutes_that_a_source_replays_in_a_loop_are_never_taken_for_new(agent, pullable, length):
    for minute in range(3 * length + 6):
        agent.record_uptimes(minute, 90_000 + 60 * (minute % length))
        status = pull_after(agent, pullable, minute)
        known_until = status.data_as_of.timestamp()
        if minute >= length + 2:
            assert abs(known_until - at(length)) < 1, minute
    assert status.state == "unknown"


def test_a_machine_that_reboots_stays_up_to_date(agent, pullable):
    for minute in range(16):
        agent.record_uptimes(minute, 90_000 + 60 * minute if minute < 8 else 10 + 60 * (minute - 8))
        status = pull_after(agent, pullable, minute)
        assert abs(status.data_as_of.timestamp() - at(minute + 1)) < 1
        assert status.state == "ok", status.reason


def test_while_a_source_goes_on_the_uptimes_of_one_node_are_read(
    agent, pullable, store, monkeypatch
):
    asked = []
    read = store.read_many

    def counted(cluster, kind, field, *rest):
        asked.append(field)
        return read(cluster, kind, field, *rest)

    monkeypatch.setattr(store, "read_many", counted)
    for minute in range(6):
        agent.record_uptimes(minute, 90_000 + 60 * minute)
        pull_after(agent, pullable, minute)
    assert "uptime_s" not in asked
