"""Recording pulls, and health changes by pulls and by time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from clusters import status_summary
from clusters.models import Cluster
from clusters.node_inventory import SeenNode
from clusters.selectors import cluster_overview
from clusters.status_numbers import NUMBERS
from clusters.status_summary import PullFacts
from clusters.tasks import judge_all
from opscenter.core import realtime
from tests.factories import NOW, ClusterFactory, healthy

pytestmark = pytest.mark.django_db

GOOD = PullFacts(
    data_as_of=NOW, agent_version="0.1.0", kind="host", clock_skew_ms=12,
    nodes=[SeenNode("n1", ready=True)], lists_nodes=True, pods=20, cpu_mc=500, cpu_cap_mc=2000,
    mem_ws=1, mem_cap=4, fs_worst_ratio=0.5, fs_worst_name="n1 /", inodes_worst_ratio=0.1,
    inodes_worst_name="n1 /", cpu_history=[250, None, 250],
)  # fmt: skip


@pytest.fixture
def published(monkeypatch, django_capture_on_commit_callbacks) -> list:
    sent: list = []
    monkeypatch.setattr(realtime, "publish", lambda cluster, what: sent.append((cluster, what)))
    monkeypatch.setattr(realtime.transaction, "on_commit", lambda function: function())
    return sent


@pytest.fixture
def connected(db):
    return ClusterFactory(
        current__tunnel_up=True, current__tunnel_since=NOW, current__tunnel_seen_at=NOW
    )


def test_the_first_pull_makes_a_cluster_ok(connected, published):
    health = status_summary.record_pull(connected.pk, GOOD, NOW)
    assert (health.state, health.since) == ("ok", NOW)
    connected.refresh_from_db()
    assert (connected.kind, connected.agent_version) == ("host", "0.1.0")
    row = connected.current
    assert (row.data_as_of, row.pods, row.cpu_history) == (NOW, 20, [250, None, 250])
    assert (row.state, row.last_pull_ok_at, row.pull_failures) == ("ok", NOW, 0)
    assert published == [(connected.pk, "health")]


def test_every_number_of_a_pull_is_one_of_the_list(connected):
    facts = replace(GOOD, nodes=[*GOOD.nodes, SeenNode("n2", ready=False)])
    status_summary.record_pull(connected.pk, facts, NOW)
    shown = cluster_overview(Cluster.objects.get(), NOW)
    counted = {"nodes_total": 2, "nodes_ready": 1, "nodes_unknown": 0, "nodes_not_ready": ["n2"]}
    assert {name: getattr(shown, name) for name in NUMBERS} == {
        name: getattr(facts, name) for name in NUMBERS
    } | counted


def test_names_are_stored_in_one_line_as_long_as_the_column_takes(connected):
    facts = replace(
        GOOD,
        fs_worst_name="n1\n" + "/x" * 200,
        nodes=[SeenNode(f"a\x00b{n:02}", ready=False) for n in range(12)],
    )
    status_summary.record_pull(connected.pk, facts, NOW)
    row = connected.current
    row.refresh_from_db()
    assert (len(row.fs_worst_name), row.fs_worst_name[:4]) == (300, "n1 /")
    assert row.nodes_not_ready == [f"a b{n:02}" for n in range(10)]


def test_a_pull_that_changes_no_state_publishes_no_health(connected, published):
    status_summary.record_pull(connected.pk, GOOD, NOW)
    later = NOW + timedelta(seconds=60)
    health = status_summary.record_pull(connected.pk, replace(GOOD, data_as_of=later), later)
    assert health.since == NOW
    assert len(published) == 1


def test_older_data_does_not_replace_newer(connected):
    status_summary.record_pull(connected.pk, GOOD, NOW)
    old = replace(GOOD, data_as_of=NOW - timedelta(hours=1), nodes=(), pods=1)
    assert status_summary.record_pull(connected.pk, old, NOW).state == "ok"
    connected.current.refresh_from_db()
    assert (connected.current.pods, connected.current.data_as_of) == (20, NOW)


def test_values_that_only_repeat_take_back_what_was_thought_new(connected):
    status_summary.record_pull(connected.pk, GOOD, NOW)
    began = NOW - timedelta(minutes=2)
    still = replace(GOOD, data_as_of=began, stands_still=True)
    later = replace(still, data_as_of=NOW + timedelta(minutes=20))  # as far as it looked back
    for facts in (still, later):
        status_summary.record_pull(connected.pk, facts, NOW + timedelta(minutes=30))
        connected.current.refresh_from_db()
        assert connected.current.data_as_of == began
    moves = replace(GOOD, data_as_of=NOW + timedelta(minutes=31))
    status_summary.record_pull(connected.pk, moves, NOW + timedelta(minutes=31))
    connected.current.refresh_from_db()
    assert connected.current.data_as_of == moves.data_as_of


def test_failures_are_counted_and_the_last_data_stays(connected):
    status_summary.record_pull(connected.pk, GOOD, NOW)
    for _ in range(2):
        health = status_summary.record_pull_failure(
            connected.pk, code="service_down", message="refused\n\x00twice" + "x" * 900, now=NOW
        )
    assert health.state == "ok"
    row = connected.current
    row.refresh_from_db()
    assert (row.pull_failures, row.pull_error_code, row.pods) == (2, "service_down", 20)
    assert row.pull_error.startswith("refused twice")
    assert len(row.pull_error) == 500
    status_summary.record_pull(connected.pk, GOOD, NOW)
    row.refresh_from_db()
    assert (row.pull_failures, row.pull_error_code, row.pull_error) == (0, "", "")


def test_time_alone_turns_a_silent_cluster_unknown_once(published):
    cluster = ClusterFactory(**healthy())
    assert status_summary.judge_all(NOW + timedelta(seconds=30)) == 0
    fresh = ClusterFactory(**healthy(NOW + timedelta(seconds=300)))
    assert status_summary.judge_all(NOW + timedelta(seconds=300)) == 1
    assert status_summary.judge_all(NOW + timedelta(seconds=900)) == 1
    row = cluster.current
    row.refresh_from_db()
    assert (row.state, row.was, row.since) == ("unknown", "ok", NOW)
    assert published == [(cluster.pk, "health"), (fresh.pk, "health")]


def test_recovery_from_unknown_starts_a_new_since(published):
    cluster = ClusterFactory(**healthy())
    status_summary.judge_all(NOW + timedelta(seconds=300))
    back = NOW + timedelta(seconds=600)
    cluster.current.refresh_from_db()
    cluster.current.tunnel_seen_at = back
    cluster.current.save()
    health = status_summary.record_pull(cluster.pk, replace(GOOD, data_as_of=back), back)
    assert (health.state, health.since, health.was) == ("ok", back, "")


def test_a_cluster_that_is_gone_is_no_error():
    assert status_summary.record_pull(uuid4(), GOOD, NOW) is None
    assert status_summary.record_pull_failure(uuid4(), code="x", message="y", now=NOW) is None
    assert status_summary.refresh_health(uuid4()) is None


def test_judging_a_fleet_in_which_nothing_changed_is_one_query(django_assert_num_queries):
    ClusterFactory.create_batch(5, **healthy())
    with django_assert_num_queries(1):
        assert status_summary.judge_all(NOW) == 0


def test_the_task_runs_by_its_name():
    assert judge_all.name == "clusters.judge_all"
    assert judge_all() == 0
