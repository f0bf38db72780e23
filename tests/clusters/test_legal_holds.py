"""Legal holds: with a reason, in the audit log, and preventing every deletion."""

from __future__ import annotations

import pytest
from django.db.models import ProtectedError

from clusters import legal_holds
from clusters.models import AuditEvent, Cluster, Customer, LegalHold
from clusters.services import delete_cluster, revoke_cluster
from opscenter.core.errors import ConflictError, InvalidInputError
from tests.factories import NOW, ClusterFactory, CustomerFactory

pytestmark = pytest.mark.django_db


def test_a_hold_says_who_why_and_since_when(customer, admin):
    hold = legal_holds.place(customer, reason="  court file\n7 ", actor=admin, now=NOW)
    assert (hold.reason, hold.placed_by, hold.placed_at) == ("court file 7", "admin", NOW)
    line = AuditEvent.objects.get()
    assert (line.action, line.actor, line.detail["reason"]) == ("hold.place", "admin", hold.reason)
    assert line.detail["customer_id"] == str(customer.pk)


def test_lifting_leaves_an_audit_line_with_everything(cluster, admin, operator):
    hold = legal_holds.place(cluster, reason="file 7", actor=admin)
    legal_holds.lift(hold, actor=operator)
    assert not LegalHold.objects.exists()
    line = AuditEvent.objects.get(action="hold.lift")
    assert (line.actor, line.cluster_id) == ("operator", cluster.pk)
    assert line.detail == {"reason": "file 7", "placed_by": "admin", "cluster": "north-1"}


@pytest.mark.parametrize("reason", ["", " \n", "x" * 501])
def test_a_hold_needs_a_reason_that_fits(customer, admin, reason):
    with pytest.raises(InvalidInputError, match="reason"):
        legal_holds.place(customer, reason=reason, actor=admin)


def test_there_is_one_hold_a_customer_and_a_cluster(cluster, admin):
    for target in (cluster, cluster.customer):
        legal_holds.place(target, reason="file 7", actor=admin)
        with pytest.raises(ConflictError):
            legal_holds.place(target, reason="again", actor=admin)
    assert LegalHold.objects.count() == AuditEvent.objects.count() == 2


def test_a_hold_on_a_customer_covers_its_clusters_and_one_on_a_cluster_only_that(
    cluster, foreign_cluster, admin
):
    sibling = ClusterFactory(customer=cluster.customer)
    everything = [cluster.pk, sibling.pk, foreign_cluster.pk]
    assert legal_holds.held_of(everything) == set()
    own = legal_holds.place(cluster, reason="one", actor=admin)
    assert legal_holds.held_of(everything) == {cluster.pk}
    assert legal_holds.standing_on(cluster.customer) == [own]
    legal_holds.place(cluster.customer, reason="all", actor=admin)
    assert legal_holds.held_of(everything) == {cluster.pk, sibling.pk}
    assert len(legal_holds.standing(cluster)) == 2
    assert legal_holds.is_held(sibling.pk)
    assert not legal_holds.is_held(foreign_cluster.pk)


@pytest.mark.parametrize("on", ["cluster", "customer"])
def test_a_held_cluster_is_revoked_but_not_deleted(cluster, admin, on):
    target = cluster if on == "cluster" else cluster.customer
    hold = legal_holds.place(target, reason="file 7", actor=admin, now=NOW)
    with pytest.raises(legal_holds.LegalHoldError, match="2026-03-01 12:00 UTC"):
        delete_cluster(cluster, actor=admin)
    revoke_cluster(cluster, actor=admin)
    assert Cluster.objects.get(pk=cluster.pk).status == "revoked"
    legal_holds.lift(hold, actor=admin)
    delete_cluster(cluster, actor=admin)
    assert not Cluster.objects.filter(pk=cluster.pk).exists()


def test_the_database_itself_refuses_to_delete_what_is_held(cluster, admin):
    lone = CustomerFactory()
    legal_holds.place(lone, reason="file 7", actor=admin)
    legal_holds.place(cluster, reason="file 7", actor=admin)
    for row in (lone, cluster):
        with pytest.raises(ProtectedError):
            row.delete()
    assert Customer.objects.filter(pk=lone.pk).exists()


def test_a_deleted_cluster_is_known_by_the_line_of_its_deletion(cluster, admin):
    customer, pk = cluster.customer, cluster.pk
    delete_cluster(cluster, actor=admin)
    assert not legal_holds.is_held(pk)
    legal_holds.place(customer, reason="file 7", actor=admin)
    assert legal_holds.is_held(pk)
