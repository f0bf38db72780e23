"""What pages read about pulls besides their success."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from metrics.models import PullSchedule
from metrics.pulling.status import PullState, odd_pulls, pull_state
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
