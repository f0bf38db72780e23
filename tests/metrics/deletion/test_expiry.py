"""What is deleted, when, and what the audit log says of it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from clusters import legal_holds
from clusters.models import AuditEvent, ClusterEvent
from clusters.services import delete_cluster
from metrics.deletion.expiry import expire_due
from metrics.models import ClusterRetention, RetentionClass
from metrics.retention.in_force import refresh_in_force, retention_of
from metrics.retention.services import change_class
from metrics.series.catalog import default_limits
from metrics.series.windows import DAY
from metrics.stores import StoreError, get_store
from metrics.stores.writer import Batch
from tests.factories import ClusterFactory
from tests.metrics.deletion.expiring import NODE, NOW, POD, T0, kept, store_hours
from tests.metrics.stores.contract import row, window

pytestmark = pytest.mark.django_db


def lines(action: str = "metrics.expire") -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action=action))


def test_each_tier_goes_when_its_days_are_over(cluster):
    ages = [0, 7 * DAY, 8 * DAY + 3600, 90 * DAY, 92 * DAY, 730 * DAY, 732 * DAY]
    store_hours(cluster.id, *ages)
    expiry = expire_due(NOW)
    assert kept(cluster.id, "1m") == ages[:2]
    assert kept(cluster.id, "10m") == ages[:4]
    assert kept(cluster.id, "1h") == ages[:6]
    # 3 minutes an hour of the node and of the cluster itself
    gone = {"1m": 15, "10m": 3, "1h": 1}
    assert expiry.buckets == {
        cluster.id: {f"{k} {t}": n for k in ("cluster", "node") for t, n in gone.items()}
    }
    assert expire_due(NOW).total == 0


def test_every_expiry_says_kind_tier_range_and_rows(cluster):
    store_hours(cluster.id, 9 * DAY)
    expire_due(NOW)
    (line,) = lines()
    until = "2023-11-07T00:00:00Z"
    assert line.cluster_id == cluster.id
    assert line.detail == {
        "cluster": "north-1",
        "series": 0,
        "expired": [
            {"kind": kind, "tier": "1m", "from": "the beginning", "to": until, "rows": 3}
            for kind in ("cluster", "node")
        ],
    }
    store_hours(cluster.id, 6 * DAY)
    expire_due(NOW + 5 * DAY)
    assert lines()[1].detail["expired"][0]["from"] == until


def test_a_run_without_anything_to_delete_leaves_no_line(cluster):
    store_hours(cluster.id, 0)
    expire_due(NOW)
    expire_due(NOW + 3600)
    assert lines() == []


@pytest.mark.sqlite_only(reason="InfluxDB refuses rows that are older than kept at once")
def test_a_day_is_deleted_once_and_what_came_late_the_next_day(cluster):
    store_hours(cluster.id, 0)
    expire_due(NOW)
    store_hours(cluster.id, 20 * DAY)
    expire_due(NOW + 3600)
    assert kept(cluster.id, "1m") == [0, 20 * DAY]
    expire_due(NOW + DAY)
    assert kept(cluster.id, "1m") == [0]


def test_a_large_fleet_leaves_a_bounded_number_of_lines(cluster, monkeypatch):
    monkeypatch.setattr("metrics.deletion.expiry.MAX_LINES", 3)
    clusters = [cluster, *ClusterFactory.create_batch(7)]
    for each in clusters:
        store_hours(each.id, 9 * DAY)
    expiry = expire_due(NOW)
    assert set(expiry.buckets) == {each.id for each in clusters}
    said = [line.detail["clusters"] for line in lines()]
    assert [len(group) for group in said] == [3, 3, 2]
    everything = {name: detail for group in said for name, detail in group.items()}
    assert set(everything) == {str(each.id) for each in clusters}
    assert everything[str(cluster.id)]["expired"][0]["rows"] == 3


def test_series_and_ledger_lines_go_with_the_longest_tier(cluster):
    store = get_store()
    old, new = T0 - 732 * DAY, T0 - DAY
    store.write(
        cluster.id,
        "agent",
        Batch(
            rows=[row(POD, old, cpu_mc=1), row(NODE, new, cpu_mc=1)],
            windows=[window(old, old + 60), window(new, new + 60)],
        ),
    )
    assert expire_due(NOW).series == 1
    assert lines()[0].detail["series"] == 1
    assert store.first_seen(cluster.id, POD) is None
    assert store.first_seen(cluster.id, NODE) == new
    assert [w.start for w in store.windows(cluster.id, "agent", 0, T0)] == [new]


def test_pods_that_are_kept_for_less_are_forgotten_before_nodes(cluster, admin):
    limits = default_limits()
    limits["pod"] = {"1m": 1, "10m": 2, "1h": 3}
    change_class(RetentionClass.objects.get(), limits=limits, actor=admin, now=NOW - 3 * DAY)
    old = T0 - 5 * DAY
    rows = [row(POD, old, cpu_mc=1), row(NODE, old, cpu_mc=1)]
    get_store().write(cluster.id, "agent", Batch(rows=rows))
    refresh_in_force(NOW - 1)
    assert expire_due(NOW).series == 1
    assert get_store().first_seen(cluster.id, POD) is None
    assert get_store().first_seen(cluster.id, NODE) == old


def test_a_deleted_cluster_is_erased_but_an_unknown_one_is_kept(cluster, operator, caplog):
    stranger, deleted = uuid.uuid4(), cluster.id
    store_hours(stranger, 0)
    store_hours(deleted, 0)
    expire_due(NOW)
    delete_cluster(cluster, actor=operator)
    assert expire_due(NOW).erased == (deleted,)
    assert get_store().clusters() == [stranger]
    assert str(stranger) in caplog.text
    (line,) = lines("metrics.erase")
    assert (line.cluster_id, line.detail["cluster"]) == (deleted, "north-1")
    assert not ClusterRetention.objects.filter(pk=deleted).exists()


@pytest.mark.parametrize("on", ["customer", "cluster"])
def test_nothing_expires_under_a_legal_hold(cluster, foreign_cluster, admin, on):
    for each in (cluster, foreign_cluster):
        store_hours(each.id, 0, 9 * DAY)
    target = cluster if on == "cluster" else cluster.customer
    hold = legal_holds.place(target, reason="file 7", actor=admin)
    expiry = expire_due(NOW)
    assert (set(expiry.buckets), expiry.held) == ({foreign_cluster.id}, 1)
    assert kept(cluster.id, "1m") == [0, 9 * DAY]
    # Queries still count on it, however old it gets.
    assert retention_of(cluster, NOW).effective.gone is None
    legal_holds.lift(hold, actor=admin)
    expire_due(NOW)
    assert kept(cluster.id, "1m") == [0]


def test_a_hold_that_is_placed_during_a_run_stops_it(cluster, admin, monkeypatch):
    store_hours(cluster.id, 0, 9 * DAY, 100 * DAY)
    store = type(get_store())
    expire = store.expire

    def then_hold(self, *args, **options):
        count = expire(self, *args, **options)
        if count:
            legal_holds.place(cluster, reason="in time", actor=admin)
        return count

    monkeypatch.setattr(store, "expire", then_hold)
    assert expire_due(NOW).total == 6  # the cluster's own minutes, which went before it
    assert kept(cluster.id, "1m") == [0, 9 * DAY, 100 * DAY]
    monkeypatch.setattr(store, "expire", expire)
    legal_holds.lift(cluster.hold, actor=admin)
    assert expire_due(NOW).total > 0
    assert kept(cluster.id, "1m") == [0]
    before, after = (line.detail["expired"] for line in lines())
    assert [(one["kind"], one["from"]) for one in before] == [("cluster", "the beginning")]
    assert {one["from"] for one in after} == {"the beginning"}  # of what the hold had kept
    assert ClusterRetention.objects.get().sweep == {}


def test_a_hold_saves_what_was_deleted_but_not_erased_yet(cluster, admin):
    store_hours(cluster.id, 0)
    customer = cluster.customer
    delete_cluster(cluster, actor=admin)
    hold = legal_holds.place(customer, reason="just in time", actor=admin)
    assert expire_due(NOW).erased == ()
    assert len(list(get_store().clusters())) == 1
    legal_holds.lift(hold, actor=admin)
    assert len(expire_due(NOW).erased) == 1


def test_a_run_that_is_cut_off_is_finished_by_the_next_with_all_rows_counted(cluster, monkeypatch):
    store_hours(cluster.id, 0, 9 * DAY, 100 * DAY)
    store = type(get_store())
    expire = store.expire
    calls = []

    def cut_off(self, *args, **options):
        calls.append(args)
        if len(calls) == 5:
            raise StoreError("cut off")
        return expire(self, *args, **options)

    monkeypatch.setattr(store, "expire", cut_off)
    with pytest.raises(StoreError):
        expire_due(NOW)
    assert lines() == []
    # Queries do not count on what may be gone.
    assert retention_of(cluster, NOW).reach("node")["1m"] == 7 * DAY
    assert retention_of(cluster, NOW).effective.gone is not None
    monkeypatch.setattr(store, "expire", expire)
    expire_due(NOW)
    (line,) = lines()
    rows = {f"{part['kind']} {part['tier']}": part["rows"] for part in line.detail["expired"]}
    assert rows == {"cluster 1m": 6, "cluster 10m": 1, "node 1m": 6, "node 10m": 1}
    assert all(part["from"] == "the beginning" for part in line.detail["expired"])
    assert ClusterRetention.objects.get().sweep == {}


def test_nothing_is_deleted_that_the_limits_keep(cluster):
    ages = list(range(0, 800 * DAY, 13 * DAY))
    store_hours(cluster.id, *ages)
    expire_due(NOW)
    for tier, limit in default_limits()["node"].items():
        assert set(kept(cluster.id, tier)) >= {age for age in ages if age <= limit * DAY}


def event(cluster, began, ended, key="node:n1"):
    """Store a row of the history; both times are ages in days before now, ``ended`` may be None."""
    moments = [
        None if age is None else datetime.fromtimestamp(NOW - age * DAY, UTC)
        for age in (began, ended)
    ]
    return ClusterEvent.objects.create(
        cluster=cluster, key=key, level="degraded", began_at=moments[0],
        began_known_at=moments[0], ended_at=moments[1], ended_known_at=moments[1],
    )  # fmt: skip


def test_history_goes_when_its_days_are_over_also_of_a_cluster_without_numbers(cluster):
    event(cluster, 800, 740, key="gone")
    event(cluster, 800, 100, key="reaches into it")
    event(cluster, 800, None, key="open")
    expiry = expire_due(NOW)
    assert expiry.buckets == {cluster.pk: {"history days": 1}}
    left = ClusterEvent.objects.order_by("key").values_list("key", flat=True)
    assert list(left) == ["open", "reaches into it"]
    (line,) = lines()
    assert line.detail["expired"] == [
        {"kind": "history", "tier": "days", "from": "the beginning",
         "to": "2021-11-14T00:00:00Z", "rows": 1}
    ]  # fmt: skip
    assert expire_due(NOW).total == 0


def test_a_hold_keeps_the_history(cluster, admin):
    event(cluster, 800, 740)
    legal_holds.place(cluster, reason="file 7", actor=admin)
    assert expire_due(NOW).total == 0
    assert ClusterEvent.objects.count() == 1
    legal_holds.lift(cluster.hold, actor=admin)
    assert expire_due(NOW).total == 1


def test_history_is_deleted_with_its_cluster(cluster, foreign_cluster, admin):
    event(cluster, 2, 1)
    kept_row = event(foreign_cluster, 2, 1)
    delete_cluster(cluster, actor=admin)
    assert ClusterEvent.objects.get() == kept_row
