"""Add a cluster: three fields, then the exact command, then what happens at the other end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from clusters import access, services
from clusters.enrolment import services as enrolment
from clusters.enrolment.steps import joining
from clusters.models import Cluster
from clusters.tunnel import host_key
from opscenter.core.errors import InvalidInputError
from opscenter.pages.base import page
from opscenter.pages.forms import AddClusterForm, KeyForm


@page
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Ask for a name, a customer and labels; create the cluster and show how to connect it.

    Only the answer to the form shows the join token: just its hash is stored. The address in the
    browser becomes the cluster's own.
    """
    access.require_create(request.user)
    form = AddClusterForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        actor = cast("User", request.user)
        try:
            cluster = services.create_cluster(
                name=form.cleaned_data["name"],
                labels=form.cleaned_data["labels"],
                customer=services.customer_named(form.cleaned_data["customer"], actor=actor),
                actor=actor,
            )
        except InvalidInputError as exc:
            field, _, message = str(exc).partition(": ")
            form.add_error(field if field in form.fields else None, message or str(exc))
        else:
            token = enrolment.issue_join_token(cluster, actor=actor)
            return _join_page(request, cluster, token)
    context = {
        "form": form,
        "section": "add",
        "customers": access.visible_customers(request.user).values_list("name", flat=True),
    }
    status = 422 if form.errors else 200
    return render(request, "cluster/add.html", context, status=status)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Show how far the cluster is; POST makes a new token (the old one stops working)."""
    cluster = access.get_cluster(request.user, cluster_id, "operate_cluster")
    token = ""
    if request.method == "POST":
        token = enrolment.issue_join_token(cluster, actor=cast("User", request.user))
    return _join_page(request, cluster, token)


@page
@require_http_methods(["POST"])
def register_key(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Accept a pasted public key, for a stock OpenSSH client."""
    cluster = access.get_cluster(request.user, cluster_id, "operate_cluster")
    form = KeyForm(request.POST)
    if form.is_valid():
        try:
            key = form.cleaned_data["public_key"]
            enrolment.register_key(cluster, key, actor=cast("User", request.user))
        except InvalidInputError as exc:
            form.add_error("public_key", str(exc).partition(": ")[2] or str(exc))
        else:
            form = KeyForm()
            cluster = access.get_cluster(request.user, cluster_id)
    return _join_page(request, cluster, "", form)


def _join_page(
    request: HttpRequest, cluster: Cluster, token: str, form: KeyForm | None = None
) -> HttpResponse:
    """Render the page of a cluster that is joining; ``token`` is shown if there is one."""
    context = _command_context(cluster, token) | {
        "cluster": cluster,
        "joining": joining(cluster, datetime.now(UTC)),
        "key_form": form or KeyForm(),
        "section": "add",
    }
    status = 422 if form and form.errors else 200
    # The page changes its own address: a reload neither sends the form nor shows the token again.
    return render(request, "cluster/join.html", context, status=status)


def _command_context(cluster: Cluster, token: str) -> dict[str, Any]:
    """Return what the commands on the page are filled with."""
    host, _, port = settings.HUB_PUBLIC_ADDRESS.rpartition(":")
    return {
        "token": token,
        "public_url": settings.PUBLIC_URL,
        "hub_key": host_key.host_key_fingerprint(),
        "hub_key_line": host_key.host_key_line(),
        "hub_host": host,
        "hub_port": port,
        "version": settings.VERSION,
        "ssh_user": str(cluster.pk),
    }
