"""The pages of retention and holds: who sees what, and that nothing is saved unseen."""

from __future__ import annotations

import re
import time

import pytest
from django.urls import reverse

from clusters import legal_holds
from clusters.models import AuditEvent, Cluster, LegalHold
from metrics.models import CustomerRetention, Erasure, RetentionClass
from metrics.retention.rules import every_limit
from metrics.series.catalog import default_limits
from metrics.series.windows import DAY
from metrics.stores import get_store
from metrics.stores.writer import Batch
from tests.metrics.deletion.expiring import days
from tests.metrics.stores.contract import NODE, row

pytestmark = pytest.mark.django_db


@pytest.fixture
def sign_in(client):
    def of(user):
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return of


def sent(name="Standard", **changes):
    limits = default_limits()
    form = {f"{kind}_{tier}": limits[kind][tier] for kind, tier in every_limit()}
    return {"name": name, **form, **changes}


def text(response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_an_operator_sees_classes_customers_and_holds_and_no_button(
    sign_in, operator, cluster, admin
):
    legal_holds.place(cluster.customer, reason="file 7", actor=admin)
    page = sign_in(operator).get(reverse("retention"))
    assert "Standard" in text(page)
    assert "2 years" in text(page)
    assert "legal hold" in text(page)
    assert "Add class" not in text(page)
    one = text(sign_in(operator).get(reverse("customer", args=[cluster.customer_id])))
    assert "Placed by admin: file 7" in one
    assert "Lift the legal hold" not in one


def test_a_customers_user_sees_its_own_without_the_reason(sign_in, viewer, cluster, admin):
    legal_holds.place(cluster.customer, reason="suspicion", actor=admin)
    for url in (
        reverse("customer", args=[cluster.customer_id]),
        reverse("cluster", args=[cluster.pk]) + "?tab=data",
    ):
        page = text(sign_in(viewer).get(url))
        assert "Legal hold on the customer Northwind" in page
        assert "suspicion" not in page
        assert "90 days" in page
    head = text(sign_in(viewer).get(reverse("cluster", args=[cluster.pk])))
    assert "legal hold" in head


def test_a_change_is_shown_with_what_it_deletes_before_it_is_saved(sign_in, admin, cluster):
    minute = int(time.time()) // 3600 * 3600 - 6 * DAY
    get_store().write(cluster.pk, "agent", Batch(rows=[row(NODE, minute, cpu_mc=1)]))
    standard = RetentionClass.objects.get()
    url = reverse("retention_class", args=[standard.pk])
    client = sign_in(admin)
    assert client.get(url).status_code == 200
    preview = client.post(url, sent(node_1m=1))
    assert "This permanently deletes data of 1 cluster" in text(preview)
    assert "node minutes (1m) 7 days 1 day about 1" in text(preview)
    standard.refresh_from_db()
    assert standard.limits == default_limits()
    assert client.post(url, sent(node_1m=1, step="save")).status_code == 302
    standard.refresh_from_db()
    assert standard.limits["node"]["1m"] == 1
    assert standard.is_default
    assert AuditEvent.objects.get().action == "retention_class.change"
    page = text(client.get(reverse("cluster", args=[cluster.pk]) + "?tab=data"))
    assert "shorter limits start deleting at" in page


def test_a_longer_class_says_that_it_deletes_nothing(sign_in, admin, cluster):
    url = reverse("retention_class", args=[RetentionClass.objects.get().pk])
    assert "This deletes nothing." in text(sign_in(admin).post(url, sent(pod_1h=3650)))


def test_numbers_that_make_no_sense_are_named_on_the_form(sign_in, admin):
    url = reverse("retention_add")
    client = sign_in(admin)
    odd = client.post(url, sent("Odd", pod_1m=91))
    assert odd.status_code == 422
    assert "keep a coarser tier at least as long as a finer one" in text(odd)
    empty = client.post(url, sent("Odd", pod_1m=""))
    assert "pod, 1m: days: This field is required." in text(empty)
    taken = client.post(url, sent("Standard"))
    assert "exists already" in text(taken)
    assert client.post(url, sent("Bank", pod_1h=3650)).status_code == 302
    assert RetentionClass.objects.get(name="Bank").limits["pod"]["1h"] == 3650


def test_another_class_becomes_the_default(sign_in, admin, cluster):
    bank = RetentionClass.objects.create(name="Bank", limits=days(1, 2, 3))
    client = sign_in(admin)
    url = reverse("retention_class", args=[bank.pk])
    form = {f"{kind}_{tier}": bank.limits[kind][tier] for kind, tier in every_limit()}
    both = {"name": "Bank", "is_default": "on", **form}
    assert "permanently deletes" in text(client.post(url, both))
    client.post(url, both | {"step": "save"})
    assert RetentionClass.objects.get(is_default=True) == bank
    assert client.post(reverse("retention_delete", args=[bank.pk]), follow=True).status_code == 200
    other = RetentionClass.objects.get(name="Standard")
    client.post(reverse("retention_delete", args=[other.pk]))
    assert RetentionClass.objects.get() == bank


def test_a_customer_gets_a_class_after_its_preview(sign_in, admin, cluster):
    brief = RetentionClass.objects.create(name="Brief", limits=days(1, 2, 3))
    client = sign_in(admin)
    url = reverse("customer_class", args=[cluster.customer_id])
    assert "permanently deletes" in text(client.post(url, {"retention_class": brief.pk}))
    assert not CustomerRetention.objects.exists()
    client.post(url, {"retention_class": brief.pk, "step": "save"})
    assert CustomerRetention.objects.get().retention_class == brief
    client.post(url, {"retention_class": "", "step": "save"})
    assert not CustomerRetention.objects.exists()
    assert client.post(url, {"retention_class": "no"}).status_code == 422


def test_a_hold_is_placed_and_lifted_on_the_customers_page(sign_in, admin, cluster):
    client = sign_in(admin)
    place = reverse("customer_hold", args=[cluster.customer_id])
    assert client.post(place, {"reason": ""}).status_code == 422
    assert client.post(place, {"reason": "file 7"}).status_code == 302
    assert client.post(place, {"reason": "again"}).status_code == 422
    assert LegalHold.objects.get().reason == "file 7"
    client.post(reverse("customer_lift", args=[cluster.customer_id]))
    client.post(reverse("customer_lift", args=[cluster.customer_id]))
    assert not LegalHold.objects.exists()


def test_a_hold_on_one_cluster_is_in_the_way_of_its_deletion(sign_in, admin, cluster):
    client = sign_in(admin)
    hold = reverse("cluster_hold", args=[cluster.pk])
    assert "No legal hold was placed" in text(client.post(hold, {"reason": ""}, follow=True))
    client.post(hold, {"reason": "file 7"})
    answer = client.post(reverse("cluster_delete", args=[cluster.pk]), {"name": cluster.name})
    assert answer.status_code == 422
    assert "There has been a legal hold on the cluster north-1" in text(answer)
    client.post(reverse("cluster_lift", args=[cluster.pk]))
    client.post(reverse("cluster_delete", args=[cluster.pk]), {"name": cluster.name})
    assert not Cluster.objects.exists()


def test_erasing_requires_the_name_typed_and_no_hold(sign_in, admin, operator, cluster):
    client = sign_in(admin)
    url = reverse("customer_erase", args=[cluster.customer_id])
    wrong = client.post(url, {"name": "northwind"})
    assert wrong.status_code == 422
    assert "Nothing was changed" in text(wrong)
    hold = legal_holds.place(cluster.customer, reason="file 7", actor=admin)
    assert "Not possible while a legal hold is active" in text(
        client.get(reverse("customer", args=[cluster.customer_id]))
    )
    assert client.post(url, {"name": "Northwind"}).status_code == 422
    legal_holds.lift(hold, actor=admin)
    page = text(client.post(url, {"name": "Northwind"}, follow=True))
    assert "Erased customers" in page
    assert "0 of 1" in page
    assert Erasure.objects.get().requested_by == "admin"


def test_a_class_lists_its_customers(sign_in, operator, cluster, foreign_cluster):
    RetentionClass.objects.create(name="Spare", limits=default_limits())
    page = text(sign_in(operator).get(reverse("retention")))
    assert "; and every cluster without a customer." in page
    assert "No customer uses it. " in page
    for customer in (cluster.customer, foreign_cluster.customer):
        spare = RetentionClass.objects.get(name="Spare")
        CustomerRetention.objects.create(customer=customer, retention_class=spare)
    page = text(sign_in(operator).get(reverse("retention")))
    assert "No customer uses it now. It applies to clusters without a customer." in page


def test_the_list_of_erasures_follows_by_itself_while_one_runs(sign_in, operator, cluster):
    one = Erasure.objects.create(
        customer_id=cluster.customer_id, customer_name="Northwind", requested_by="admin",
        requested_at=cluster.created_at,
    )  # fmt: skip
    client = sign_in(operator)
    assert 'hx-trigger="every 3s"' in client.get(reverse("retention")).content.decode()
    Erasure.objects.filter(pk=one.pk).update(state="held")
    assert "every 3s" not in client.get(reverse("retention")).content.decode()
