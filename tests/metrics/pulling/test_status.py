"""What pages read about pulls besides their success."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from metrics.models import PullSchedule
from metrics.pulling.status import PullState, idle_seconds, odd_pulls, pull_state
from tests.factories import ClusterFactory

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def schedule(**columns):
    cluster = ClusterFactory()
    PullSchedule.objects.create(cluster=cluster, due_at=NOW, **columns)
    return cluster


def test_only_pulls_that_are_slow_fill_gaps_or_have_notes_are_odd(django_assert_num_queries):
    slow, filling = schedule(duration_ms=3000.0), schedule(backfill_due_at=NOW)
    noted = schedule(notes=["left out: 2 hosts"])
    schedule(duration_ms=2999.0)
    with django_assert_num_queries(1):
        found = odd_pulls(3000)
    assert found == {
        slow.pk: PullState(3000.0),
        filling.pk: PullState(None, is_filling=True),
        noted.pk: PullState(None, notes=("left out: 2 hosts",)),
    }


def test_the_pulls_of_a_cluster_without_a_schedule_say_nothing():
    assert pull_state(ClusterFactory()) == PullState()
    assert pull_state(schedule(duration_ms=12.5)) == PullState(12.5)


def tried(seconds_ago: float, **columns):
    return schedule(last_attempt_at=NOW - timedelta(seconds=seconds_ago), **columns)


def idle():
    return idle_seconds(NOW.timestamp(), started_at=0.0)


def test_pulls_go_on_while_one_cluster_was_tried_lately_well_or_not(django_assert_num_queries):
    tried(3000)
    tried(30, error_code="service_down", failures=3)
    with django_assert_num_queries(1):
        assert idle() is None


def test_no_cluster_was_pulled_since_the_newest_try():
    tried(3000)
    tried(400)
    assert idle() == 400


def test_a_cluster_that_backs_off_is_not_idle_before_its_time():
    tried(640, failures=9)
    assert idle() is None
    PullSchedule.objects.update(last_attempt_at=NOW - timedelta(seconds=700))
    assert idle() == 700


def test_a_try_in_the_future_is_no_sign_that_pulls_go_on():
    tried(300)
    tried(-3600)
    assert idle() == 300


def test_a_cluster_that_was_never_tried_counts_from_its_enrolment():
    cluster = schedule()
    cluster.enrolled_at = NOW - timedelta(seconds=100)
    cluster.save()
    assert idle() is None
    cluster.enrolled_at = NOW - timedelta(seconds=500)
    cluster.save()
    assert idle() == 500


def test_without_an_enrolled_cluster_nobody_is_idle():
    cluster = tried(5000)
    cluster.status = "revoked"
    cluster.save()
    assert idle() is None
