"""The admin: mostly read-only, and every change leaves an audit line."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.urls import reverse

from clusters import legal_holds
from clusters.admin import AuditedAdmin
from clusters.models import ApiToken, AuditEvent, Customer
from tests.factories import NOW, TunnelSessionFactory, api_token, public_key

pytestmark = pytest.mark.django_db
OURS = [model for model in admin.site._registry if model._meta.app_label in ("clusters", "metrics")]


@pytest.fixture
def as_admin(client, admin):
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    return client


def url(model, action: str, *args) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{action}", args=args)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_list_and_form_opens(as_admin, cluster, admin, model):
    cluster.keys.create(public_key=public_key(), fingerprint="SHA256:x")
    cluster.join_tokens.create(digest="0" * 64, expires_at=NOW)
    TunnelSessionFactory(cluster=cluster)
    api_token(admin)
    assert as_admin.get(url(model, "changelist"), {"q": "x"}).status_code == 200
    for row in model.objects.all()[:1]:
        assert as_admin.get(url(model, "change", row.pk)).status_code == 200


@pytest.mark.parametrize(
    "model",
    [m for m in OURS if not isinstance(admin.site._registry[m], AuditedAdmin)],
    ids=lambda model: model.__name__,
)
def test_most_of_it_only_shows(as_admin, model):
    assert as_admin.get(url(model, "add")).status_code == 403


def test_no_form_shows_a_digest(as_admin, cluster, admin):
    cluster.join_tokens.create(digest="d1" * 32, expires_at=NOW)
    api_token(admin)
    token = ApiToken.objects.get()
    join = cluster.join_tokens.get()
    for row in (token, join):
        page = as_admin.get(url(type(row), "change", row.pk)).content.decode()
        assert "d1d1d1" not in page
        # A token's digest is its primary key: it is in addresses, which only admins see.
        assert token.token_key not in page


def test_a_cluster_is_neither_added_nor_deleted_past_the_services(as_admin, cluster):
    assert as_admin.get(url(type(cluster), "add")).status_code == 403
    assert as_admin.get(url(type(cluster), "delete", cluster.pk)).status_code == 403


def test_a_customer_that_is_added_leaves_an_audit_line(as_admin):
    assert as_admin.post(url(Customer, "add"), {"name": "Bank"}).status_code == 302
    line = AuditEvent.objects.get()
    assert (line.actor, line.action) == ("admin", "admin.customer.add")
    assert line.detail["object"] == "Bank"


def test_a_cluster_under_a_legal_hold_keeps_its_customer(as_admin, cluster, foreign_cluster, admin):
    page = url(type(cluster), "change", cluster.pk)
    sent = {"customer": foreign_cluster.customer_id}
    legal_holds.place(cluster.customer, reason="file 7", actor=admin)
    as_admin.post(page, sent)
    cluster.refresh_from_db()
    assert cluster.customer_id != foreign_cluster.customer_id
    legal_holds.lift(cluster.customer.hold, actor=admin)
    as_admin.post(page, sent)
    cluster.refresh_from_db()
    assert cluster.customer_id == foreign_cluster.customer_id


def test_a_customer_under_a_legal_hold_is_not_deleted(as_admin, customer, admin):
    legal_holds.place(customer, reason="file 7", actor=admin)
    as_admin.post(url(Customer, "delete", customer.pk), {"post": "yes"})
    assert Customer.objects.filter(pk=customer.pk).exists()


def test_ending_a_token_leaves_an_audit_line(as_admin, operator):
    api_token(operator, name="nightly")
    token = ApiToken.objects.get()
    as_admin.post(url(ApiToken, "delete", token.pk), {"post": "yes"})
    assert not ApiToken.objects.exists()
    assert AuditEvent.objects.get().action == "admin.apitoken.delete"


def test_grants_are_made_on_the_permissions_page(as_admin, customer, stranger, cluster):
    page = reverse("admin:clusters_customer_permissions", args=[customer.pk])
    assert as_admin.get(page).status_code == 200
    manage = reverse(
        "admin:clusters_customer_permissions_manage_user", args=[customer.pk, stranger.pk]
    )
    sent = {"permissions": ["view_customer"], "submit": "Save"}
    assert as_admin.post(manage, sent).status_code == 302
    assert stranger.has_perm("clusters.view_customer", customer)
    assert Customer.objects.count() == 1
    line = AuditEvent.objects.get()
    assert (line.action, line.detail["user"]) == ("grant.change", "stranger")
    assert line.detail["permissions"] == ["view_customer"]


def test_the_admins_own_sign_in_form_is_not_served(client):
    response = client.get("/admin/login/")
    assert (response.status_code, response["location"].split("?")[0]) == (302, "/accounts/login/")
