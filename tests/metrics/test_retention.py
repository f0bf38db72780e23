"""What is kept for how long, with a fixed clock."""

from __future__ import annotations

import uuid

import pytest

from clusters.models import AuditEvent
from clusters.services import delete_cluster
from metrics.models import CustomerRetention, RetentionClass
from metrics.retention import DAY, expire_due, retention_of
from metrics.stores import get_store
from metrics.stores.base import Batch
from tests.factories import ClusterFactory
from tests.metrics.stores.contract import NODE, POD, T0, row, window

pytestmark = pytest.mark.django_db

NOW = T0 + 1800  # half past: bounds are rounded down to the hour


def store_hours(cluster_id, *ages):
    """Store one minute at the start of the hour that lies ``age`` seconds before T0."""
    rows = [row(NODE, T0 - age + 60 * m, cpu_mc=1) for age in ages for m in range(3)]
    get_store().write(cluster_id, "agent", Batch(rows=rows))


def kept(cluster_id, tier):
    columns = get_store().read(cluster_id, NODE, "cpu_mc", tier, T0 - 4000 * DAY, T0 + DAY)
    return sorted({(T0 - t + 3599) // 3600 * 3600 for t in columns.t})


def test_the_default_class_keeps_a_week_a_quarter_and_two_years(cluster):
    assert retention_of(cluster).seconds == {"1m": 7 * DAY, "10m": 90 * DAY, "1h": 730 * DAY}
    assert RetentionClass.objects.get(is_default=True).name == "Standard"


def test_without_any_class_the_defaults_of_the_model_hold(cluster):
    RetentionClass.objects.all().delete()
    assert retention_of(cluster).longest == 730 * DAY


def test_a_customers_class_holds_for_its_clusters_only(cluster, foreign_cluster):
    chosen = RetentionClass.objects.create(name="Bank", days_1m=1, days_10m=2, days_1h=3650)
    CustomerRetention.objects.create(customer=cluster.customer, retention_class=chosen)
    assert retention_of(cluster).longest == 3650 * DAY
    assert retention_of(foreign_cluster).longest == 730 * DAY
    assert retention_of(ClusterFactory(customer=None)).name == "Standard"
    for each in (cluster, foreign_cluster):
        store_hours(each.id, 0, 3 * DAY)
    expire_due(NOW)
    assert kept(cluster.id, "1m") == kept(cluster.id, "10m") == [0]
    assert kept(foreign_cluster.id, "1m") == kept(cluster.id, "1h") == [0, 3 * DAY]


def test_each_tier_goes_when_its_time_is_over(cluster):
    ages = [0, 7 * DAY, 7 * DAY + 3600, 90 * DAY, 91 * DAY, 730 * DAY, 731 * DAY]
    store_hours(cluster.id, *ages)
    expiry = expire_due(NOW)
    assert kept(cluster.id, "1m") == ages[:2]
    assert kept(cluster.id, "10m") == ages[:4]
    assert kept(cluster.id, "1h") == ages[:6]
    # 3 minutes an hour of the node and of the cluster itself
    assert expiry.buckets == {cluster.id: {"1m": 30, "10m": 6, "1h": 2}}
    assert expire_due(NOW).total == 0


def test_expiry_is_audited_once_a_run(cluster):
    store_hours(cluster.id, 8 * DAY)
    expire_due(NOW)
    expire_due(NOW)
    line = AuditEvent.objects.get(action="metrics.expire")
    assert line.detail["buckets"] == {"1m": 6}


def test_series_and_ledger_lines_go_with_the_longest_tier(cluster):
    store = get_store()
    old, new = T0 - 731 * DAY, T0 - DAY
    store.write(
        cluster.id,
        "agent",
        Batch(
            rows=[row(POD, old, cpu_mc=1), row(NODE, new, cpu_mc=1)],
            windows=[window(old, old + 60), window(new, new + 60)],
        ),
    )
    assert expire_due(NOW).series == 1
    assert store.first_seen(cluster.id, POD) is None
    assert store.first_seen(cluster.id, NODE) == new
    assert [w.start for w in store.windows(cluster.id, "agent", 0, T0)] == [new]


def test_a_deleted_cluster_is_erased_but_an_unknown_one_is_kept(cluster, operator, caplog):
    stranger, deleted = uuid.uuid4(), cluster.id
    store_hours(stranger, 0)
    store_hours(deleted, 0)
    delete_cluster(cluster, actor=operator)
    assert expire_due(NOW).erased == (deleted,)
    assert get_store().clusters() == [stranger]
    assert str(stranger) in caplog.text
