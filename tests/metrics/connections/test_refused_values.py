"""What was not believed is counted by our own reasons, and shown wherever the source is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.test import Client

from metrics.connections.refused_values import count_refused, counted, refused_values
from metrics.connections.status import sourcing_of
from metrics.models import PullSchedule
from metrics.series.source_answer import SourceAnswer
from metrics.sources.bounds import REASONS
from tests.factories import UserFactory

NOW = 1_800_000_000
BELOW = "node cpu_mc below zero"
ABOVE = "pod cpu_mc more than its node has"


def answer(**refused: int) -> SourceAnswer:
    return SourceAnswer(
        rows=(), infos=(), start=NOW, end=NOW, oldest=None, newest_end=None, now=NOW,
        agent_version="", kind="", minutes_alive=frozenset(), refused=refused,
    )  # fmt: skip


@pytest.fixture
def schedule(cluster) -> PullSchedule:
    return PullSchedule.objects.create(cluster=cluster, due_at=datetime.fromtimestamp(NOW, UTC))


def test_counts_add_up_by_reason_with_the_time_of_the_last_ones(schedule):
    count_refused(schedule.cluster_id, answer(**{BELOW: 3}), NOW)
    count_refused(schedule.cluster_id, answer(**{BELOW: 1, ABOVE: 2}), NOW + 60)
    count_refused(schedule.cluster_id, answer(**{ABOVE: 1}), NOW + 120)
    found = sourcing_of(schedule.cluster).refused_values
    assert found.total == 7
    assert found.last_at == datetime.fromtimestamp(NOW + 120, UTC)
    assert [(one.text, one.count) for one in found.reasons] == [(ABOVE, 3), (BELOW, 4)]


def test_a_good_answer_asks_the_database_nothing(schedule, django_assert_num_queries):
    with django_assert_num_queries(0):
        count_refused(schedule.cluster_id, answer(), NOW)


def test_a_text_that_is_not_ours_is_never_stored_or_shown(schedule):
    count_refused(schedule.cluster_id, answer(**{"<script>": 1}), NOW)
    schedule.refresh_from_db()
    assert schedule.refused_values == {}
    assert refused_values({"of another version": [5, NOW]}).total == 0


def test_the_number_of_reasons_is_bounded():
    stored = counted({}, dict.fromkeys(REASONS, 1), NOW)
    assert len(counted(stored, dict.fromkeys(REASONS, 1), NOW)) == len(REASONS) < 400


def test_the_pages_and_the_api_name_what_was_refused(schedule, redis_server):
    count_refused(schedule.cluster_id, answer(**{BELOW: 1234}), NOW)
    client = Client()
    client.force_login(UserFactory(is_superuser=True))
    place = f"/clusters/{schedule.cluster_id}/"
    for page in (f"{place}source/", f"{place}?tab=data"):
        text = client.get(page).content.decode()
        assert BELOW in text
        assert "1,234 left out" in text
    got = client.get(f"/api/v1/clusters/{schedule.cluster_id}/source").json()["refused_values"]
    assert (got["total"], got["reasons"][0]["text"]) == (1234, BELOW)
