"""Live pulls and backfills against the agent's real API, spool and a real store."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

import orjson
import pytest
from aiohttp import web

from clusters.models import Cluster, ClusterStatus
from metrics.models import PullSchedule
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from metrics.pulling.schedule import back_off_seconds
from metrics.series.rollups import rounded_mean
from metrics.series.windows import STREAM
from tests.fleet.answers import SimulatedAgent
from tests.fleet.world import World
from tests.metrics.conftest import ledger_of, status_of, story
from tests.metrics.pulling.answers import app_of
from tests.metrics.pulling.spooled import T0, assert_store_equals_source, at, pull, tunnel


def test_the_first_pull_brings_the_newest_minutes_and_lists_the_past_as_gaps(
    agent, pullable, store
):
    Cluster.objects.filter(pk=pullable.pk).update(enrolled_at=datetime.fromtimestamp(at(38), UTC))
    agent.record(5, 40)
    result = pull(agent, pullable, 40.2)
    assert (result.outcome, result.gaps_open) == ("ok", True)
    assert story(pullable, T0) == [
        (5, 10, "gap", 0, "not_enrolled"),
        (10, 20, "gap", 0, "not_enrolled"),
        (20, 30, "gap", 0, "not_enrolled"),
        (30, 40, "done", 10, ""),
    ]
    position = store.position(pullable.pk, STREAM)
    assert (position.watermark, position.head) == (at(5), at(40))
    done = backfill_cluster(pullable.pk, at(40.3))
    assert (done.filled, done.open) == (3, 0)
    assert {w.state for w in ledger_of(pullable)} == {"done"}
    assert store.position(pullable.pk, STREAM).watermark == at(40)
    assert_store_equals_source(store, pullable, agent)


def test_pulls_minute_by_minute_store_every_number_once(agent, pullable, store):
    for minute in range(1, 25):
        agent.record(minute - 1, minute)
        assert pull(agent, pullable, minute + 0.1).outcome == "ok"
    assert story(pullable, T0) == [
        (0, 10, "done", 10, ""), (10, 20, "done", 10, ""), (20, 24, "done", 4, ""),
    ]  # fmt: skip
    assert_store_equals_source(store, pullable, agent)


def test_the_status_says_what_the_newest_minute_says(agent, pullable, settings):
    settings.JUDGE_ALL_FILESYSTEMS = True  # those of the test are tiny
    agent.record(0, 4)
    agent.now = at(4.1) + 4  # its clock is 4 s ahead
    pull_cluster(pullable.pk, at(4.1))
    status = status_of(pullable)
    assert status.data_as_of == datetime.fromtimestamp(at(4), UTC)
    assert (status.nodes_ready, status.nodes_total, status.nodes_not_ready) == (2, 2, [])
    assert (status.cpu_mc, status.cpu_cap_mc) == (rounded_mean(4 * 112 + 6, 4) + 50, 6000)
    assert (status.mem_ws, status.mem_cap) == (rounded_mean(4 + (12 + 13 + 14 + 15) * 7, 4), 10**9)
    assert (status.fs_worst_ratio, status.fs_worst_name) == (0.9, "n1 /")
    assert (round(status.inodes_worst_ratio, 3), status.inodes_worst_name) == (0.6, "n1 /")
    assert status.pods == 1
    assert len(status.cpu_history) == 60
    assert status.cpu_history[-4:] == [25, 26, 27, 27]
    assert status.cpu_history[:56] == [None] * 56
    assert 3000 <= status.clock_skew_ms <= 4000
    pullable.refresh_from_db()
    assert (pullable.agent_version, pullable.kind) == ("0.1.0", "host")
    agent.record(4, 5)
    pull(agent, pullable, 5.1)
    assert status_of(pullable).nodes_not_ready == ["n2"]
    agent.record(5, 6)
    pull(agent, pullable, 6.1)
    assert status_of(pullable).nodes_not_ready == []


def test_the_same_pull_again_changes_nothing(agent, pullable, store):
    agent.record(0, 10)
    pull(agent, pullable, 10.1)
    first = (story(pullable, T0), store.position(pullable.pk, STREAM))
    pull(agent, pullable, 10.1)
    assert (story(pullable, T0), store.position(pullable.pk, STREAM)) == first
    assert_store_equals_source(store, pullable, agent)


def test_an_agent_without_data_yet_is_well_and_leaves_no_ledger(agent, pullable, store):
    assert pull(agent, pullable, 5.1).outcome == "ok"
    assert story(pullable, T0) == []
    assert store.position(pullable.pk, STREAM).head is None
    assert PullSchedule.objects.get().due_at == datetime.fromtimestamp(at(6) + 4, UTC)
    assert status_of(pullable).pull_error_code == ""


def test_pending_and_revoked_clusters_are_not_pulled(pullable, stand):
    for status in (Cluster.Status.PENDING, Cluster.Status.REVOKED):
        Cluster.objects.filter(pk=pullable.pk).update(status=status)
        assert pull_cluster(pullable.pk, at(1)).code == "not_active"
    assert stand.connections == {}


def test_while_the_hub_says_that_the_tunnel_is_down_nothing_is_asked(pullable, stand):
    tunnel(pullable, up=False)
    assert pull_cluster(pullable.pk, at(1)).code == "tunnel_down"
    assert stand.connections == {}


def test_failures_back_off_and_success_returns_to_the_interval(pullable, stand, settings):
    stand.serve(pullable, web.Application())  # 404 for everything
    waits = []
    for minute in range(1, 7):
        result = pull_cluster(pullable.pk, at(minute))
        assert result.code == "bad_response"
        schedule = PullSchedule.objects.get(cluster=pullable)
        waits.append((schedule.due_at - datetime.fromtimestamp(at(minute), UTC)).total_seconds())
    assert waits[:4] == [60, 120, 240, 480]
    assert back_off_seconds(5, 60) == back_off_seconds(50, 60) == 600
    assert PullSchedule.objects.get(cluster=pullable).failures == 6


def test_two_workers_at_once_pull_once(pullable, stand):
    asked, entered, leave = [], threading.Event(), threading.Event()
    simulated = SimulatedAgent(World.make(1, 1, nodes=1), born=T0, clock=lambda: at(5.1))

    async def waiting(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        entered.set()
        await asyncio.to_thread(leave.wait, 20)
        start, end = int(request.query["start"]), int(request.query["end"])
        return web.Response(
            body=orjson.dumps(simulated.range(start, end)), content_type="application/json"
        )

    class Blocking(threading.Thread):
        def run(self) -> None:
            entered.wait(20)
            try:
                # Only the lease is touched: the other test database connection is not ours.
                self.second = pull_cluster(pullable.pk, at(5.1))
            finally:
                leave.set()

    stand.serve(pullable, app_of(waiting))
    other = Blocking()
    other.start()
    first = pull_cluster(pullable.pk, at(5.1))
    other.join(30)
    assert (first.outcome, other.second.outcome, other.second.code) == ("ok", "skipped", "busy")
    assert len(asked) == 1


@pytest.mark.parametrize("behind", [3, 25, 300])
def test_a_cluster_whose_clock_is_behind_is_pulled_by_its_own_clock(agent, pullable, behind, store):
    """It samples now, and says that it was ``behind`` minutes ago."""
    for minute in range(400, 430):
        agent.record(minute - behind, minute - behind + 1)
        agent.now = at(minute + 1.1 - behind)
        pull_cluster(pullable.pk, at(minute + 1.1))
        backfill_cluster(pullable.pk, at(minute + 1.2))
    assert_store_equals_source(store, pullable, agent)
    assert {line.state for line in ledger_of(pullable)} == {"done"}
    assert status_of(pullable).clock_skew_ms == pytest.approx(-60_000 * behind, abs=5000)
    # A clock that is set right leaves a hole that says so, and goes on.
    agent.now = at(440.1)
    agent.record(439, 440)
    assert pull_cluster(pullable.pk, at(440.1)).outcome == "ok"
    pull_cluster(pullable.pk, at(440.2))
    backfill_cluster(pullable.pk, at(440.3))
    assert_store_equals_source(store, pullable, agent)
    assert "gap" not in {line.state for line in ledger_of(pullable)}


def test_a_clock_of_a_cluster_that_goes_back_is_told_and_its_minutes_are_as_new_as_they_are(
    agent, pullable, store
):
    for minute in range(380, 400):
        agent.record(minute, minute + 1)
        assert pull(agent, pullable, minute + 1.1).outcome == "ok"
    for minute in range(400, 410):
        agent.record(minute - 300, minute - 299)
        agent.now = at(minute + 1.1 - 300)
        seen_at = datetime.fromtimestamp(at(minute + 1.1), UTC)
        ClusterStatus.objects.update(tunnel_seen_at=seen_at)
        assert pull_cluster(pullable.pk, at(minute + 1.1)).outcome == "ok"
    status = status_of(pullable)
    assert abs(status.data_as_of.timestamp() - at(410)) < 5
    assert (status.state, status.settle_seconds) == ("degraded", 0), status.reason
    assert status.reason == "its clock is 5 h behind"
    backfill_cluster(pullable.pk, at(411.2))
    assert_store_equals_source(store, pullable, agent)
