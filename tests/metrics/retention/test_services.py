"""What is kept for how long, with a fixed clock: classes, grace and what queries count on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from clusters.models import AuditEvent, ClusterEvent
from metrics import query
from metrics.deletion.expiry import expire_due
from metrics.deletion.preview import effect_of_assigning, effect_of_change
from metrics.models import ClusterRetention, CustomerRetention, RetentionClass
from metrics.retention.in_force import refresh_in_force, retention_of
from metrics.retention.services import assign, change_class, create_class, delete_class
from metrics.series.catalog import KINDS, default_limits
from metrics.series.windows import DAY
from metrics.stores import get_store
from opscenter.core.errors import ConflictError, InvalidInputError
from tests.factories import ClusterFactory, CustomerFactory
from tests.metrics.deletion.expiring import NOW, T0, days, kept, store_hours

pytestmark = pytest.mark.django_db


def standard() -> RetentionClass:
    return RetentionClass.objects.get(is_default=True)


def test_the_default_class_keeps_a_week_a_quarter_and_two_years(cluster):
    for kind in KINDS:
        assert retention_of(cluster, NOW).reach(kind) == {
            "1m": 7 * DAY, "10m": 90 * DAY, "1h": 730 * DAY,
        }  # fmt: skip
    assert standard().name == "Standard"


def test_without_any_class_the_usual_limits_hold(cluster):
    RetentionClass.objects.all().delete()
    assert retention_of(cluster, NOW).limits == default_limits()


def test_a_customers_class_holds_for_its_clusters_only(cluster, foreign_cluster, admin):
    bank = create_class(name="Bank", limits=days(1, 2, 3650), actor=admin)
    assign(cluster.customer, bank, actor=admin, now=NOW - 2 * DAY)
    refresh_in_force(NOW - 1)
    assert retention_of(cluster, NOW).reach("pod")["1h"] == 3650 * DAY
    assert retention_of(foreign_cluster, NOW).reach("pod")["1h"] == 730 * DAY
    assert retention_of(ClusterFactory(customer=None), NOW).name == "Standard"
    for each in (cluster, foreign_cluster):
        store_hours(each.id, 0, 4 * DAY)
    expire_due(NOW)
    assert kept(cluster.id, "1m") == kept(cluster.id, "10m") == [0]
    assert kept(foreign_cluster.id, "1m") == kept(cluster.id, "1h") == [0, 4 * DAY]


def test_each_kind_has_limits_of_its_own(cluster, admin):
    limits = default_limits()
    limits["pod"] = {"1m": 1, "10m": 2, "1h": 3}
    change_class(standard(), limits=limits, actor=admin, now=NOW - 2 * DAY)
    refresh_in_force(NOW - 1)
    retention = retention_of(cluster, NOW)
    assert retention.reach("pod") == {"1m": DAY, "10m": 2 * DAY, "1h": 3 * DAY}
    assert retention.reach("node")["1m"] == retention.seconds["1m"] == 7 * DAY


def test_a_range_comes_from_the_tier_that_holds_it_for_its_kind(cluster, admin):
    limits = default_limits()
    limits["pod"]["1m"] = 1
    change_class(standard(), limits=limits, actor=admin, now=NOW - 2 * DAY)
    refresh_in_force(NOW - 1)
    store_hours(cluster.id, 3 * DAY)
    start = T0 - 3 * DAY
    tiers = {
        kind: query.range_query(
            cluster, query.SeriesKey(kind, ns, "x"), "cpu_mc", start, start + 3600, now=NOW
        ).tier
        for kind, ns in (("node", ""), ("pod", "a"))
    }
    assert tiers == {"node": "1m", "pod": "10m"}


def test_shorter_limits_delete_after_a_day_of_grace(cluster, admin):
    store_hours(cluster.id, 0, 4 * DAY)
    expire_due(NOW)
    change_class(standard(), limits=days(1, 90, 730), actor=admin, now=NOW)
    assert retention_of(cluster, NOW).effective.due_at == NOW + DAY
    expire_due(NOW + 3600)
    assert kept(cluster.id, "1m") == [0, 4 * DAY]
    expire_due(NOW + DAY - 1)
    assert kept(cluster.id, "1m") == [0, 4 * DAY]
    expire_due(NOW + DAY)
    assert kept(cluster.id, "1m") == [0]
    # What the minutes made stays.
    assert kept(cluster.id, "10m") == kept(cluster.id, "1h") == [0, 4 * DAY]


def test_a_cluster_that_no_run_has_looked_at_has_the_grace_as_well(cluster, admin):
    store_hours(cluster.id, 0, 4 * DAY)
    change_class(standard(), limits=days(1, 90, 730), actor=admin, now=NOW)
    expire_due(NOW + 60)
    assert kept(cluster.id, "1m") == [0, 4 * DAY]


def test_a_change_taken_back_in_time_costs_nothing(cluster, admin):
    store_hours(cluster.id, 0, 4 * DAY)
    change_class(standard(), limits=days(1, 90, 730), actor=admin, now=NOW)
    change_class(standard(), limits=default_limits(), actor=admin, now=NOW + DAY - 60)
    expire_due(NOW + 2 * DAY)
    assert kept(cluster.id, "1m") == [0, 4 * DAY]
    assert retention_of(cluster, NOW).effective.due_at is None


def test_longer_limits_hold_at_once_but_bring_nothing_back(cluster, admin):
    store_hours(cluster.id, 0, 6 * DAY, 20 * DAY)
    expire_due(NOW)
    change_class(standard(), limits=days(60, 90, 730), actor=admin, now=NOW)
    expire_due(NOW + 20 * DAY)
    assert kept(cluster.id, "1m") == [0, 6 * DAY]
    # A range from before that is answered by the tier that still has it.
    start = T0 - 20 * DAY
    answer = query.range_query(
        cluster, query.SeriesKey("node", "", "n1"), "cpu_mc", start, start + 3600, now=NOW
    )
    assert answer.tier == "10m"


def test_moving_a_cluster_to_a_customer_with_less_has_the_grace_too(cluster, admin):
    short = CustomerFactory(name="Brief")
    assign(short, create_class(name="Brief", limits=days(1, 1, 1), actor=admin), actor=admin)
    store_hours(cluster.id, 0, 4 * DAY)
    expire_due(NOW)
    cluster.customer = short
    cluster.save()
    expire_due(NOW + 3600)
    expire_due(NOW + DAY)
    assert kept(cluster.id, "1m") == [0, 4 * DAY]
    expire_due(NOW + DAY + 3600)
    assert kept(cluster.id, "1m") == [0]


def test_a_preview_says_about_how_much_goes_from_when_and_until_when(
    cluster, foreign_cluster, admin
):
    for each in (cluster, foreign_cluster):
        store_hours(each.id, 0, 6 * DAY)
    refresh_in_force(NOW)
    effect = effect_of_change(standard(), days(2, 90, 700), now=NOW)
    assert [(loss.kind, loss.tier) for loss in effect.losses] == [
        (kind, tier) for kind in KINDS for tier in ("1m", "1h")
    ]
    node = next(loss for loss in effect.losses if (loss.kind, loss.tier) == ("node", "1m"))
    assert (node.days_before, node.days) == (7, 2)
    # From the oldest minute to two days before the deletion begins, as if it never paused.
    end = (NOW + DAY - 2 * DAY) // DAY * DAY
    assert node.rows == 2 * (end - node.oldest) // 60
    assert node.oldest == T0 - 6 * DAY
    assert effect.due_at == NOW + DAY
    assert (effect.clusters, effect.held, effect.counted) == (2, 0, 2)
    hours = next(loss for loss in effect.losses if (loss.kind, loss.tier) == ("node", "1h"))
    assert (hours.rows, hours.oldest) == (0, None)


def test_a_preview_of_longer_limits_is_empty(cluster, admin):
    store_hours(cluster.id, 0, 6 * DAY)
    effect = effect_of_change(standard(), days(30, 365, 3650), now=NOW)
    assert (effect.losses, effect.due_at, effect.clusters) == ((), None, 1)


def test_choosing_another_class_or_default_has_a_preview(cluster, foreign_cluster, admin):
    store_hours(cluster.id, 0, 6 * DAY)
    brief = create_class(name="Brief", limits=days(1, 1, 1), actor=admin)
    assert effect_of_assigning(cluster.customer, brief, NOW).clusters == 1
    assert effect_of_assigning(cluster.customer, None, NOW).losses == ()
    assign(foreign_cluster.customer, brief, actor=admin, now=NOW)
    everybody = effect_of_change(brief, is_default=True, now=NOW)
    assert (everybody.clusters, len(everybody.losses)) == (2, 3 * len(KINDS))


def test_a_preview_ends_in_time(cluster, foreign_cluster, admin, monkeypatch):
    monkeypatch.setattr("metrics.deletion.preview.COUNTING_SECONDS", -1.0)
    effect = effect_of_change(standard(), days(1, 1, 1), now=NOW)
    assert (effect.counted, effect.clusters, effect.rows) == (0, 2, 0)
    assert len(effect.losses) == 3 * len(KINDS)


def test_every_change_is_in_the_audit_log_and_nothing_else_is(cluster, admin):
    row = create_class(name="Bank", limits=days(1, 2, 3), actor=admin)
    change_class(row, name="Bank", limits=days(1, 2, 3), actor=admin)
    change_class(row, limits=days(1, 2, 4), actor=admin)
    assign(cluster.customer, row, actor=admin)
    assign(cluster.customer, row, actor=admin)
    assign(cluster.customer, None, actor=admin)
    delete_class(row, actor=admin)
    lines = list(AuditEvent.objects.values_list("actor", "action"))
    assert lines == [
        ("admin", f"retention{action}")
        for action in ("_class.create", "_class.change", ".assign", ".assign", "_class.delete")
    ]
    change = AuditEvent.objects.get(action="retention_class.change").detail
    assert change["before"]["limits"]["pod"]["1h"] == 3
    assert change["after"]["limits"]["pod"]["1h"] == 4


def test_a_class_that_somebody_has_stays(cluster, admin):
    row = create_class(name="Bank", limits=days(1, 2, 3), actor=admin)
    assign(cluster.customer, row, actor=admin)
    with pytest.raises(ConflictError, match="Northwind still uses this class"):
        delete_class(row, actor=admin)
    with pytest.raises(ConflictError, match="default"):
        delete_class(standard(), actor=admin)
    with pytest.raises(InvalidInputError, match="make another class the default"):
        change_class(standard(), is_default=False, actor=admin)
    change_class(row, is_default=True, actor=admin)
    assert RetentionClass.objects.filter(is_default=True).get() == row


@pytest.mark.parametrize("name", ["", "  ", "x" * 61])
def test_a_class_needs_a_name(admin, name):
    with pytest.raises(InvalidInputError, match="name"):
        create_class(name=name, limits=days(1, 2, 3), actor=admin)


def test_two_classes_of_one_name_and_limits_that_make_no_sense_are_refused(admin):
    with pytest.raises(ConflictError, match="Standard exists already"):
        create_class(name="Standard", limits=days(1, 2, 3), actor=admin)
    with pytest.raises(InvalidInputError, match="keep a coarser tier at least as long"):
        create_class(name="Odd", limits=days(9, 2, 3), actor=admin)
    assert RetentionClass.objects.count() == 1


def test_looking_again_changes_nothing(cluster, django_assert_num_queries):
    refresh_in_force(NOW)
    row = ClusterRetention.objects.get()
    refresh_in_force(NOW + 60)
    assert ClusterRetention.objects.get().wanted == row.wanted
    assert CustomerRetention.objects.count() == 0
    assert get_store().series(cluster.id) == []


@pytest.mark.django_db(transaction=True)
def test_the_migration_keeps_what_every_class_said():
    executor = MigrationExecutor(connection)
    newest = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "metrics"]
    names = [name for app, name in executor.loader.graph.nodes if app == "metrics"]
    ours = next(name for name in names if name.endswith("_retention_by_kind"))
    before = executor.loader.graph.node_map[("metrics", ours)].parents
    earlier = [node.key for node in before if node.key[0] == "metrics"]
    try:
        state = executor.migrate(earlier)
        old = state.apps.get_model("metrics", "RetentionClass")
        old.objects.create(name="Bank", days_1m=30, days_10m=365, days_1h=3650)
        old.objects.create(name="Odd", days_1m=30, days_10m=9, days_1h=3)
        executor = MigrationExecutor(connection)
        executor.migrate([("metrics", ours)])
        limits = {row.name: row.limits for row in RetentionClass.objects.all()}
        assert set(limits["Bank"]) == set(KINDS)
        assert limits["Bank"]["pod"] == {"1m": 30, "10m": 365, "1h": 3650}
        assert limits["Odd"]["node"] == {"1m": 30, "10m": 30, "1h": 30}
        executor = MigrationExecutor(connection)
        state = executor.migrate(earlier)
        old = state.apps.get_model("metrics", "RetentionClass")
        assert old.objects.get(name="Bank").days_1h == 3650
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(newest)


def test_a_preview_counts_the_history_that_goes(cluster):
    moment = datetime.fromtimestamp(NOW - 500 * DAY, UTC)
    ClusterEvent.objects.create(
        cluster=cluster, key="state", level="ok", began_at=moment, began_known_at=moment,
        ended_at=moment, ended_known_at=moment,
    )  # fmt: skip
    effect = effect_of_change(standard(), default_limits() | {"history": {"days": 30}}, now=NOW)
    (loss,) = effect.losses
    assert (loss.kind, loss.days_before, loss.days, loss.rows) == ("history", 730, 30, 1)
    assert loss.oldest == NOW - 500 * DAY


def test_a_change_that_does_not_say_the_history_leaves_it(admin):
    row = create_class(name="Bank", limits=days(1, 2, 3) | {"history": {"days": 1500}}, actor=admin)
    without = {kind: limit for kind, limit in days(1, 2, 4).items() if kind != "history"}
    change_class(row, limits=without, actor=admin)
    assert row.limits["history"] == {"days": 1500}
