"""Which clusters are due when, and what the tick does to the schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.test.utils import CaptureQueriesContext

from clusters.models import Cluster, ClusterStatus
from metrics import tasks
from metrics.models import PullSchedule
from metrics.pulling import schedule
from opscenter.core import leases
from tests.factories import ClusterFactory

NOW = 1_800_000_000.0


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


def scheduled(**columns) -> PullSchedule:
    status = {"current__tunnel_up": True, "current__tunnel_since": moment(-3600)}
    status |= {k: columns.pop(k) for k in list(columns) if k.startswith("current__")}
    defaults = {"due_at": moment(30), "dispatched_at": moment(-30)}
    return PullSchedule.objects.create(cluster=ClusterFactory(**status), **defaults | columns)


def test_a_clusters_second_is_its_own_and_stays():
    for cluster_id in [uuid4() for _ in range(50)]:
        due = schedule.next_due(cluster_id, NOW, 60)
        assert NOW < due <= NOW + 60
        assert schedule.next_due(cluster_id, due, 60) == due + 60
        assert schedule.next_due(cluster_id, due - 0.001, 60) == due


def test_a_fleet_is_spread_over_the_interval():
    phases = [schedule.phase_seconds(UUID(int=n), 60) for n in range(6000)]
    counts = [phases.count(second) for second in range(60)]
    assert min(counts) > 50
    assert max(counts) < 160


def test_a_new_cluster_is_due_at_once(db):
    cluster = ClusterFactory()
    assert schedule.claim_due(NOW).pulls == [cluster.pk]
    assert schedule.claim_due(NOW).pulls == []


def test_what_is_due_is_sent_once_and_gets_its_next_turn(db):
    due = scheduled(due_at=moment(-1))
    scheduled(due_at=moment(1))
    assert schedule.claim_due(NOW).pulls == [due.cluster_id]
    assert schedule.claim_due(NOW).pulls == []
    due.refresh_from_db()
    assert due.due_at.timestamp() == schedule.next_due(due.cluster_id, NOW, 60)
    assert due.dispatched_at == moment(0)


def test_a_tunnel_that_came_up_makes_the_pull_due_at_once(db):
    row = scheduled(due_at=moment(600), current__tunnel_since=moment(-2))
    assert schedule.claim_due(NOW).pulls == [row.cluster_id]
    assert schedule.claim_due(NOW).pulls == []


def test_a_clock_that_went_back_makes_all_of_the_future_due_at_once(db):
    later = moment(7300)
    row = scheduled(due_at=later, backfill_due_at=later)
    other = scheduled(recheck_due_at=later)
    due = schedule.claim_due(NOW)
    assert due.pulls == [row.cluster_id]
    assert set(due.backfills) == {row.cluster_id, other.cluster_id}
    assert schedule.claim_due(NOW) == schedule.Due([], [])


def test_what_was_sent_in_the_future_is_due_at_once_by_however_little_a_clock_went_back(db):
    soon = moment(900)
    row = scheduled(due_at=soon, dispatched_at=moment(840), backfill_due_at=soon)
    other = scheduled(due_at=soon, dispatched_at=moment(840), recheck_due_at=soon)
    due = schedule.claim_due(NOW)
    assert set(due.pulls) == set(due.backfills) == {row.cluster_id, other.cluster_id}
    assert schedule.claim_due(NOW) == schedule.Due([], [])


def test_a_tunnel_that_came_up_in_the_future_makes_no_pull_due_at_every_tick(db):
    scheduled(current__tunnel_since=moment(7000))
    assert schedule.claim_due(NOW).pulls == []


@pytest.mark.parametrize("status", [Cluster.Status.PENDING, Cluster.Status.REVOKED])
def test_clusters_that_are_not_enrolled_are_never_due(db, status):
    row = scheduled(due_at=moment(-100), backfill_due_at=moment(-100))
    Cluster.objects.filter(pk=row.cluster_id).update(status=status)
    assert schedule.claim_due(NOW) == schedule.Due([], [])


def test_gaps_are_filled_only_while_the_tunnel_is_up(db):
    row = scheduled(backfill_due_at=moment(-1))
    down = scheduled(backfill_due_at=moment(-1), current__tunnel_up=False)
    assert schedule.claim_due(NOW).backfills == [row.cluster_id]
    assert schedule.claim_due(NOW).backfills == []
    PullSchedule.objects.filter(pk=down.pk).update(due_at=moment(-1))
    assert schedule.claim_due(NOW) == schedule.Due([down.cluster_id], [])
    ClusterStatus.objects.filter(cluster_id=down.cluster_id).update(tunnel_up=True)
    assert schedule.claim_due(NOW).backfills == [down.cluster_id]


def test_a_cluster_whose_tunnel_is_down_is_still_looked_at_every_interval(db):
    row = scheduled(due_at=moment(-1), current__tunnel_up=False)
    assert schedule.claim_due(NOW).pulls == [row.cluster_id]


def test_the_number_of_queries_does_not_grow_with_the_fleet(db):
    from django.db import connection

    def queries(count: int) -> int:
        for _ in range(count):
            scheduled(due_at=moment(-1), backfill_due_at=moment(-1))
        with CaptureQueriesContext(
            connection,
        ) as captured:
            schedule.claim_due(NOW)
        PullSchedule.objects.update(due_at=moment(3600), backfill_due_at=None)
        return len(captured)

    assert queries(2) == queries(40)


def test_a_tick_puts_expiring_tasks_into_their_queues(db, monkeypatch):
    sent = []
    for task in (tasks.pull_cluster, tasks.backfill_cluster):
        monkeypatch.setattr(
            task, "apply_async", lambda task=task, **options: sent.append((task.name, options))
        )
    row = scheduled(due_at=moment(-1), backfill_due_at=moment(-1))
    past = datetime.now(UTC) - timedelta(seconds=1)
    PullSchedule.objects.update(due_at=past, backfill_due_at=past)
    assert tasks.dispatch_due() == 2
    key = (str(row.cluster_id),)
    assert sent == [
        ("metrics.pull_cluster", {"args": key, "queue": "pull", "priority": 0, "expires": 60}),
        ("metrics.backfill_cluster",
         {"args": key, "queue": "backfill", "priority": 6, "expires": 60}),
    ]  # fmt: skip


def test_the_beat_schedule_names_tasks_that_exist():
    from opscenter.celery import app

    app.loader.import_default_modules()
    names = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert {"metrics.dispatch_due", "metrics.expire"} <= names <= set(app.tasks)


@pytest.mark.django_db
def test_the_stores_housekeeping_runs_once_at_a_time_and_says_what_it_did(
    redis_server, store, monkeypatch
):
    monkeypatch.setattr(type(store), "maintain", lambda _, now: f"done at {now > 0}")
    assert tasks.maintain_store() == "done at True"
    with leases.hold("maintain", 60):
        assert tasks.maintain_store() == "another worker is at it"
