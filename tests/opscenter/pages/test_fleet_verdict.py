"""That all is clear is said only where every cluster is known to be healthy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.health import WORST_FIRST
from clusters.selectors import FleetTotals
from metrics.models import PullSchedule
from opscenter.monitoring import readiness
from opscenter.pages.fleet_verdict import verdict
from tests.factories import ClusterFactory, healthy
from tests.signs import show_life

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def totals(**states: int) -> FleetTotals:
    counted = {state: states.get(state, 0) for state in WORST_FIRST}
    reporting = sum(counted[state] for state in ("critical", "degraded", "ok"))
    return FleetTotals(
        clusters=sum(counted.values()),
        reporting=reporting,
        expected=reporting + counted["unknown"],
        states=counted,
        nodes_ready=0,
        nodes_unknown=0,
        nodes_total=0,
        pods=0,
        simulated=0,
        oldest_data_as_of=None,
        as_of=NOW,
    )


def text_of(problem: str = "", **states: int) -> str:
    said = verdict(totals(**states), problem)
    return "" if said is None else f"{said.text} {said.detail}".strip()


def test_all_is_clear_where_all_report_and_are_healthy():
    assert text_of(ok=3, revoked=1) == "All clear. Every cluster is reporting and healthy."


def test_a_cluster_that_waits_is_said_to_wait():
    assert text_of(pending=1) == (
        "No cluster has reported yet. 1 cluster is waiting for first data."
    )
    assert text_of(pending=2, ok=5) == (
        "2 clusters are waiting for first data. All others are reporting and healthy."
    )


def test_with_a_problem_of_the_centre_nothing_is_known():
    assert text_of("Redis does not answer", ok=3) == "It is not known whether all is clear."


@pytest.mark.parametrize("states", [{}, {"revoked": 2}, {"critical": 1, "ok": 2}, {"unknown": 1}])
def test_nothing_is_said_of_none_or_where_the_list_says_it(states):
    assert text_of(**states) == ""


@given(st.fixed_dictionaries({state: st.integers(0, 3) for state in WORST_FIRST}), st.booleans())
def test_all_is_well_only_if_all_are_known_to_be(states, away):
    said = verdict(totals(**states), "the worker: no heartbeat" if away else "")
    others = sum(states.values()) - states["ok"] - states["revoked"]
    if said is not None and said.state == "ok":
        assert states["ok"] > 0
        assert (others, away) == (0, False)


@pytest.fixture
def pages(client, operator, redis_server):
    """Return a function that gets the fleet page, or an update of it, of a centre that works."""
    client.force_login(operator)
    show_life()

    def get(path: str = "/") -> str:
        return " ".join(client.get(path).content.decode().split())

    return get


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/fleet/updates/"])
def test_pages_and_their_updates_say_that_all_is_clear(pages, path):
    ClusterFactory(name="well", **healthy(datetime.now(UTC)))
    text = pages(path)
    assert "All clear." in text
    assert "<b>1</b> of 1 reporting" in text


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/fleet/updates/"])
def test_a_fleet_of_one_that_waits_says_so_and_not_none_of_none(pages, path):
    ClusterFactory(name="new")
    text = pages(path)
    assert "No cluster has reported yet." in text
    assert "of 0 reporting" not in text
    assert "All clear" not in text


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/fleet/updates/"])
def test_a_centre_without_redis_claims_nothing_and_names_it(pages, path, settings, tmp_path):
    ClusterFactory(name="well", **healthy(datetime.now(UTC)))
    settings.REDIS_URL = f"unix://{tmp_path}/away.sock"
    text = pages(path)
    assert "All clear" not in text
    assert "It is not known whether all is clear." in text
    assert 'data-problem="Redis does not answer"' in text


@pytest.mark.django_db
def test_every_page_names_what_is_away(pages, settings, tmp_path):
    cluster = ClusterFactory(name="well", **healthy(datetime.now(UTC)))
    assert 'data-problem=""' in pages(f"/clusters/{cluster.pk}/")
    settings.REDIS_URL = f"unix://{tmp_path}/away.sock"
    for path in (f"/clusters/{cluster.pk}/", "/pods/"):
        assert 'data-problem="Redis does not answer"' in pages(path)


@pytest.mark.django_db
def test_all_clear_is_not_said_while_no_cluster_is_pulled(
    client, operator, redis_server, monkeypatch
):
    monkeypatch.setattr(readiness, "STARTED_AT", 0.0)
    show_life()
    now = datetime.now(UTC)
    cluster = ClusterFactory(**healthy(now))
    pulled = PullSchedule.objects.create(cluster=cluster, due_at=now, last_attempt_at=now)
    client.force_login(operator)
    assert "All clear" in client.get("/").content.decode()
    pulled.last_attempt_at = now - timedelta(seconds=170)
    pulled.save()
    text = " ".join(client.get("/").content.decode().split())
    assert "All clear" not in text
    assert "Ops Center has pulled no cluster for 17" in text
