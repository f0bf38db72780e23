"""The erasure of a customer: all of it, refused under a hold, finished after a kill, audited."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import pytest
import redis
from django.core.management import call_command

from clusters import legal_holds
from clusters.models import AuditEvent, Cluster, Customer
from clusters.services import delete_cluster
from metrics.deletion import erasure
from metrics.deletion.expiry import expire_due
from metrics.exports import jobs as exports
from metrics.models import ClusterRetention, CustomerRetention, Erasure
from metrics.retention.services import assign, create_class
from metrics.series.windows import DAY, STREAM
from metrics.stores import StoreError, get_store
from metrics.stores.sqlite.store import SqliteStore
from opscenter.core import leases
from opscenter.core.errors import ConflictError, InvalidInputError
from tests.centre import ROOT, clean_environment
from tests.factories import ClusterFactory
from tests.metrics.deletion.expiring import NOW, days, store_hours

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def fleet(cluster, foreign_cluster, admin, viewer):
    """The customer with two clusters, a class and a grant; another customer beside it."""
    second = ClusterFactory(name="north-2", customer=cluster.customer)
    for each in (cluster, second, foreign_cluster):
        store_hours(each.pk, 0, DAY)
    assign(cluster.customer, create_class(name="B", limits=days(1, 2, 3), actor=admin), actor=admin)
    expire_due(NOW)
    return cluster.customer


def actions() -> list[str]:
    return list(AuditEvent.objects.values_list("action", flat=True))


def test_everything_of_the_customer_goes_and_nothing_else(fleet, foreign_cluster, admin, viewer):
    begun = erasure.begin(fleet, confirm="Northwind", actor=admin)
    seen = []
    done = erasure.run(begun.pk, report=lambda row: seen.append((row.done, row.total)))
    assert (done.state, seen) == ("done", [(1, 2), (2, 2)])
    assert list(get_store().clusters()) == [foreign_cluster.pk]
    assert list(Cluster.objects.all()) == [foreign_cluster]
    assert list(Customer.objects.all()) == [foreign_cluster.customer]
    assert not CustomerRetention.objects.exists()
    assert set(ClusterRetention.objects.values_list("pk", flat=True)) == {foreign_cluster.pk}
    assert erasure.run(begun.pk).state == "done"


def test_files_of_exports_go_as_well(fleet, foreign_cluster, admin, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    for target in (fleet, fleet.clusters.first(), foreign_cluster):
        export = exports.request(target, form="csv", actor=admin)
        exports.claim(datetime.now(UTC))
        exports.make(export.pk)
    assert len(list(exports.directory().iterdir())) == 3
    erasure.run(erasure.begin(fleet, confirm="Northwind", actor=admin).pk)
    assert [path.stem for path in exports.directory().iterdir()] == [str(export.pk)]


def test_a_file_of_the_customer_that_had_a_cluster_before_goes_as_well(
    fleet, foreign_cluster, admin, settings, tmp_path
):
    settings.DATA_DIR = tmp_path
    moved = fleet.clusters.first()
    made = []
    for target in (fleet, foreign_cluster.customer, fleet.clusters.last()):
        made.append(exports.request(target, form="csv", actor=admin))
        exports.claim(datetime.now(UTC))
        exports.make(made[-1].pk)
    Cluster.objects.filter(pk=moved.pk).update(customer=foreign_cluster.customer)
    customer = foreign_cluster.customer
    erasure.run(erasure.begin(customer, confirm=customer.name, actor=admin).pk)
    assert [path.stem for path in exports.directory().iterdir()] == [str(made[-1].pk)]


def test_the_audit_log_says_who_what_and_when_and_stays(fleet, admin):
    before = AuditEvent.objects.count()
    erasure.run(erasure.begin(fleet, confirm="Northwind", actor=admin).pk)
    lines = AuditEvent.objects.order_by("id")[before:]
    assert [(line.actor, line.action) for line in lines] == [
        ("admin", "customer.erase"),
        *[("admin", "cluster.delete"), ("system", "metrics.erase")] * 2,
        ("system", "customer.erased"),
    ]
    assert len(lines[0].detail["clusters"]) == 2
    assert lines[5].detail["requested_by"] == "admin"


def test_another_name_erases_nothing(fleet, admin):
    with pytest.raises(InvalidInputError, match="nothing was erased"):
        erasure.begin(fleet, confirm="northwind", actor=admin)
    assert not Erasure.objects.exists()
    assert "customer.erase" not in actions()


@pytest.mark.parametrize("on", ["customer", "cluster"])
def test_a_legal_hold_refuses_it(fleet, cluster, admin, on):
    legal_holds.place(cluster if on == "cluster" else fleet, reason="file 7", actor=admin)
    with pytest.raises(legal_holds.LegalHoldError):
        erasure.begin(fleet, confirm="Northwind", actor=admin)
    assert len(list(get_store().clusters())) == 3


def test_a_hold_that_is_placed_meanwhile_stops_it_until_it_is_lifted(fleet, admin):
    begun = erasure.begin(fleet, confirm="Northwind", actor=admin)

    def then_hold(row):
        if row.done == 1:
            legal_holds.place(fleet, reason="just in time", actor=admin)

    stopped = erasure.run(begun.pk, report=then_hold)
    assert (stopped.state, stopped.done) == ("held", 1)
    assert "legal hold" in stopped.problem
    assert Cluster.objects.filter(customer=fleet).count() == 1
    assert erasure.run_open() == 0
    legal_holds.lift(fleet.hold, actor=admin)
    assert erasure.run_open() == 1
    assert not Customer.objects.filter(pk=fleet.pk).exists()


def test_a_hold_in_the_very_moment_of_a_deletion_stops_it_too(fleet, admin, monkeypatch):
    begun = erasure.begin(fleet, confirm="Northwind", actor=admin)
    ask = legal_holds.is_held

    def then_hold(pk):
        held = ask(pk)
        if not legal_holds.standing_on(fleet):
            legal_holds.place(fleet, reason="in that moment", actor=admin)
        return held

    monkeypatch.setattr(legal_holds, "is_held", then_hold)
    monkeypatch.setattr(erasure, "_is_held", lambda _: False)
    stopped = erasure.run(begun.pk)
    assert (stopped.state, stopped.done) == ("held", 0)
    assert Cluster.objects.filter(customer=fleet).count() == 2


def test_it_is_asked_for_once(fleet, admin):
    erasure.begin(fleet, confirm="Northwind", actor=admin)
    with pytest.raises(ConflictError, match="already"):
        erasure.begin(fleet, confirm="Northwind", actor=admin)


def test_two_processes_do_not_erase_the_same_customer(fleet, admin):
    begun = erasure.begin(fleet, confirm="Northwind", actor=admin)
    with leases.hold(f"erase:{begun.pk}", 60), pytest.raises(erasure.ErasureBusyError):
        erasure.run(begun.pk)
    assert erasure.run(begun.pk).state == "done"


def test_a_store_that_refuses_leaves_the_rest_for_later(fleet, admin, monkeypatch):
    begun = erasure.begin(fleet, confirm="Northwind", actor=admin)

    def refuse(self, cluster):
        raise StoreError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(type(get_store()), "erase", refuse)
        with pytest.raises(StoreError):
            erasure.run(begun.pk)
        assert erasure.run_open() == 0
    assert Erasure.objects.get().problem == "disk full"
    assert erasure.run_open() == 1


def test_a_pull_under_way_is_waited_for(fleet, admin, settings):
    settings.PULL_DEADLINE_SECONDS = -30  # so that waiting takes no time here
    begun = erasure.begin(fleet, confirm="Northwind", actor=admin)
    first = UUID(begun.clusters[0])
    with leases.hold(f"pull:{first}:{STREAM}", 60), pytest.raises(leases.LeaseTimeoutError):
        erasure.run(begun.pk)
    assert first in list(get_store().clusters())
    assert erasure.run(begun.pk).state == "done"


def test_a_cluster_that_was_deleted_before_goes_as_well(fleet, cluster, admin):
    pk = cluster.pk
    delete_cluster(cluster, actor=admin)
    begun = erasure.begin(fleet, confirm="Northwind", actor=admin)
    assert str(pk) in begun.clusters
    erasure.run(begun.pk)
    assert pk not in list(get_store().clusters())


def test_a_cluster_that_is_added_meanwhile_goes_as_well(fleet, admin):
    begun = erasure.begin(fleet, confirm="Northwind", actor=admin)
    ClusterFactory(name="late", customer=fleet)
    assert erasure.run(begun.pk).total == 3
    assert not Customer.objects.filter(pk=fleet.pk).exists()


def test_the_command_wants_the_name_and_says_how_far_it_is(fleet, capsys):
    with pytest.raises(SystemExit) as refused:
        call_command("erase_customer", customer=str(fleet.pk))
    assert refused.value.code == 2
    assert "2 clusters for good; confirm it by --confirm 'Northwind'" in capsys.readouterr().err
    call_command("erase_customer", customer="Northwind", confirm="Northwind")
    assert capsys.readouterr().out.splitlines() == [
        "  1 of 2 clusters", "  2 of 2 clusters", "Northwind is erased: 2 clusters",
    ]  # fmt: skip
    with pytest.raises(SystemExit):
        call_command("erase_customer", customer="Northwind")
    assert "there is no customer Northwind" in capsys.readouterr().err


def test_a_killed_erasure_goes_on_when_it_is_run_again(tmp_path, redis_server):
    environment = clean_environment(OPSCENTER_DATA_DIR=str(tmp_path), REDIS_URL=redis_server)

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip

    run("migrate", "-v0")
    made = run(
        "shell", "-v0", "-c",
        "from tests.factories import *\nfrom tests.metrics.deletion.expiring import *\n"
        "DAY = 86400\n"
        "customer = CustomerFactory(name='Northwind')\n"
        "for n in range(12):\n"
        "    c = ClusterFactory(name=f'c-{n}', customer=customer)\n"
        "    store_hours(c.pk, *range(0, 90 * DAY, DAY))\n"
        "other = ClusterFactory(name='other').pk\nprint(other)\nstore_hours(other, 0)",
    )  # fmt: skip
    command = ("erase_customer", "--customer", "Northwind", "--confirm", "Northwind")
    with subprocess.Popen(
        [sys.executable, "manage.py", *command],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert "of 12 clusters" in process.stdout.readline()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    client = redis.Redis.from_url(redis_server)
    for key in client.scan_iter("opscenter:lease:*"):
        client.delete(key)  # as if their time had run out
    out = run(*command)
    assert "continuing erasure of Northwind" in out
    assert out.splitlines()[-1] == "Northwind is erased: 12 clusters"
    store = SqliteStore(tmp_path / "metrics.sqlite3")
    assert [str(pk) for pk in store.clusters()] == [made.split()[-1]]
    assert store.check() == "ok"
    store.close()
