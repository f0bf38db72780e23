"""Notes: what is off though nothing fails, on the fleet page and under a cluster's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clusters.selectors import cluster_overview
from metrics.models import PullSchedule
from metrics.pulling.status import PullState, pull_state
from opscenter.pages.notes import is_outdated, notes_of
from tests.factories import ClusterFactory, healthy

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet(client, operator):
    client.force_login(operator)

    def get(query: str = "") -> str:
        return " ".join(client.get(f"/?{query}").content.decode().split())

    return get


def make(name: str, **columns):
    return ClusterFactory(name=name, **healthy(datetime.now(UTC), **columns))


def schedule(cluster, **columns) -> None:
    PullSchedule.objects.create(cluster=cluster, due_at=datetime.now(UTC), **columns)


def keys(cluster) -> list[str]:
    now = datetime.now(UTC)
    return [note.key for note in notes_of(cluster_overview(cluster, now), pull_state(cluster))]


def test_a_cluster_with_nothing_to_note_has_no_notes(fleet):
    cluster = make("well", clock_skew_ms=120)
    schedule(cluster, duration_ms=180.0)
    assert keys(cluster) == []
    assert "with notes" not in fleet()


def test_clock_slow_pulls_backfill_old_agent_and_source_are_noted():
    cluster = make("odd", clock_skew_ms=-89_000)
    type(cluster).objects.update(agent_version="0.0.9")
    schedule(
        cluster, duration_ms=5200.0, backfill_due_at=datetime.now(UTC), notes=["left out: 2 hosts"]
    )
    assert keys(cluster) == ["clock", "pull", "backfill", "agent", "source"]


def test_a_cluster_that_does_not_report_is_not_called_slow():
    ago = datetime.now(UTC) - timedelta(hours=1)
    cluster = ClusterFactory(**healthy(ago, tunnel_up=False))
    schedule(cluster, duration_ms=5200.0, backfill_due_at=ago)
    assert keys(cluster) == ["backfill"]


def test_a_cluster_that_never_reported_has_no_notes():
    cluster = ClusterFactory(status="pending", enrolled_at=None)
    odd = PullState(9000.0, is_filling=True, notes=("?",))
    assert notes_of(cluster_overview(cluster, datetime.now(UTC)), odd) == []


@pytest.mark.parametrize(
    ("version", "is_old"),
    [("0.0.9", True), ("0.1.0", False), ("0.1.0+simulated", False), ("9.0.0", False), ("", False),
     ("<b>", False)],
)  # fmt: skip
def test_only_a_version_that_is_lower_makes_an_agent_outdated(version, is_old):
    assert is_outdated(version) is is_old


def test_the_chip_counts_and_filters_and_keeps_in_the_address(fleet, client):
    odd, well = make("odd", clock_skew_ms=89_000), make("well")
    text = fleet("view=table")
    assert 'id="chip-notes" class="chip" href="/?view=table&amp;notes=1"' in text
    assert "with notes</span><b>1</b>" in text
    assert "clock 89 s ahead</span>" in text
    assert '<span class="tag">clock off</span>' in fleet("view=grid")
    narrowed = fleet("view=table&notes=1")
    assert ">odd<" in narrowed
    assert ">well<" not in narrowed
    assert 'href="/?view=table" aria-current="true"' in narrowed
    assert '<input type="hidden" form="filters" name="notes" value="1">' in narrowed
    answer = client.get(f"/fleet/updates/?ids={odd.pk},{well.pk}&view=table&notes=1")
    assert f'"{well.pk}":""' in answer["HX-Trigger"]
    assert "clock 89 s ahead" in answer.content.decode()


def test_notes_stand_under_the_name_of_a_cluster_and_lead_to_more(client, operator):
    client.force_login(operator)
    cluster = make("odd", clock_skew_ms=89_000)
    schedule(cluster, duration_ms=5200.0)
    text = " ".join(client.get(f"/clusters/{cluster.pk}/?range=6h").content.decode().split())
    assert 'href="?tab=tunnel&amp;range=6h">clock 89 s ahead</a>' in text
    assert 'href="?tab=data&amp;range=6h">slow pulls: 5.2 s</a>' in text
    data = " ".join(client.get(f"/clusters/{cluster.pk}/?tab=data").content.decode().split())
    assert "<dt>last pull took</dt><dd>5.2 s</dd>" in data
