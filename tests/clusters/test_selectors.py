"""The fleet as a list: order, counts, filters, cost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.http import QueryDict

from clusters.health import WORST_FIRST
from clusters.models import Cluster, ClusterStatus
from clusters.selectors import (
    FleetFilter,
    cluster_overview,
    cluster_overviews,
    filter_overviews,
    fleet_totals,
    label_values,
)
from tests.factories import NOW, ClusterFactory, CustomerFactory, healthy

pytestmark = pytest.mark.django_db


def overviews(now=NOW):
    return cluster_overviews(Cluster.objects.all(), now)


def fleet() -> None:
    north, south = CustomerFactory(name="Northwind"), CustomerFactory(name="Südbank")
    ClusterFactory(
        name="fine", customer=north, labels={"region": "eu", "tier": "gold"}, **healthy()
    )
    ClusterFactory(name="new", customer=None, status="pending", enrolled_at=None)
    ClusterFactory(name="full", customer=south, labels={"region": "us"},
                   **healthy(fs_worst_ratio=0.95, state="critical", nodes_ready=2))  # fmt: skip
    ClusterFactory(name="warm", customer=north, **healthy(mem_ws=47 << 30))
    ClusterFactory(name="lost", customer=south, simulated=True,
                   **healthy(tunnel_up=False, tunnel_since=NOW - timedelta(minutes=5),
                             since=NOW - timedelta(days=1)))  # fmt: skip
    ClusterFactory(name="ended", customer=north, status="revoked", **healthy())


def test_the_worst_come_first():
    fleet()
    assert [(o.name, o.health.state) for o in overviews()] == [
        ("full", "critical"), ("warm", "degraded"), ("lost", "unknown"), ("new", "pending"),
        ("fine", "ok"), ("ended", "revoked"),
    ]  # fmt: skip


def test_within_a_state_the_longest_comes_first_then_the_name():
    for name, hours in (("b", 1), ("c", 3), ("a", 1)):
        ClusterFactory(name=name, **healthy(since=NOW - timedelta(hours=hours)))
    assert [o.name for o in overviews()] == ["c", "a", "b"]


def test_the_health_is_judged_now_and_not_as_recorded():
    fleet()
    ClusterStatus.objects.update(tunnel_seen_at=NOW)
    later = {o.name: o.health.state for o in overviews(NOW + timedelta(hours=1))}
    assert later["fine"] == "unknown"


def test_totals_sum_only_what_reports_and_count_everything():
    fleet()
    totals = fleet_totals(overviews(), NOW)
    assert (totals.clusters, totals.reporting, totals.expected, totals.simulated) == (6, 3, 4, 1)
    assert tuple(totals.states) == WORST_FIRST
    assert totals.states["critical"] == totals.states["unknown"] == totals.states["ok"] == 1
    assert (totals.nodes_ready, totals.nodes_total, totals.pods) == (8, 9, 270)
    assert totals.oldest_data_as_of == NOW


def test_an_empty_fleet_has_totals_of_zero():
    totals = fleet_totals([], NOW)
    assert (totals.clusters, totals.reporting, totals.oldest_data_as_of) == (0, 0, None)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "full warm lost new fine ended"),
        ("q=north", "warm fine ended"),
        ("q=SÜD", "full lost"),
        ("q=north+gold", "fine"),
        ("q=region%3Deu", "fine"),
        ("state=critical&state=unknown", "full lost"),
        ("state=critical,unknown", "full lost"),
        ("state=purple", ""),
        ("label=region", "full fine"),
        ("label=region%3Dus", "full"),
        ("label=region&label=tier", "fine"),
        ("label=region%3Deu&state=ok&q=fine", "fine"),
        ("customer=Northwind", "warm fine ended"),
    ],
)
def test_filters_combine(query, names):
    fleet()
    found = filter_overviews(overviews(), FleetFilter.from_query(QueryDict(query)))
    assert [o.name for o in found] == names.split()


def test_the_age_of_data_is_given_and_of_data_from_the_future_not_known():
    cluster = ClusterFactory(**healthy())
    assert cluster_overview(cluster, NOW + timedelta(seconds=90)).data_age_seconds == 90
    assert cluster_overview(cluster, NOW - timedelta(seconds=90)).data_age_seconds is None


def test_a_cluster_without_a_status_row_is_listed_as_pending():
    Cluster.objects.create(name="bare")
    (only,) = overviews()
    assert (only.health.state, only.cpu_ratio, only.customer) == ("pending", None, "")


def test_label_values_are_the_choices_of_the_filter():
    fleet()
    assert label_values(overviews()) == {"region": ["eu", "us"], "tier": ["gold"]}


@pytest.mark.parametrize("count", [100, 2000])
def test_the_list_costs_one_query_at_any_size(count, django_assert_num_queries):
    clusters = Cluster.objects.bulk_create(
        Cluster(name=f"c{n}", status="active", labels={"n": str(n)}) for n in range(count)
    )
    ClusterStatus.objects.bulk_create(
        ClusterStatus(cluster=cluster, data_as_of=NOW, tunnel_up=True, tunnel_seen_at=NOW)
        for cluster in clusters
    )
    with django_assert_num_queries(1):
        assert len(overviews()) == count
