"""Exports on the pages of customers and clusters: request, watch, download, delete."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from clusters import access
from clusters.access import AnyUser
from clusters.models import Cluster, Customer
from metrics.api.exports import download
from metrics.exports import jobs
from metrics.models import Export
from opscenter.core.errors import ConflictError, ForbiddenError, InvalidInputError
from opscenter.pages.base import page


def exports_context(target: Customer | Cluster, user: AnyUser) -> dict[str, Any]:
    """Return what the list of exports of a visible customer or cluster shows to a user."""
    which = "cluster" if isinstance(target, Cluster) else "customer"
    found = list(Export.objects.select_related("cluster").filter(**{which: target}))
    return {
        "exports": [(one, jobs.may_remove(user, one)) for one in found],
        "export_target": target,
        "export_running": any(one.state in ("waiting", "running") for one in found),
        "export_list": reverse("exports", args=[which, target.pk]),
    }


@page
@require_http_methods(["GET", "HEAD", "POST"])
def exports(request: HttpRequest, which: str, target_id: UUID) -> HttpResponse:
    """Show only the list, for the page to fetch again; POST requests an export."""
    target: Customer | Cluster
    if which == "cluster":
        target = access.get_cluster(request.user, target_id)
    elif which == "customer":
        target = access.get_customer(request.user, target_id)
    else:
        raise Http404
    if request.method != "POST":
        return render(request, "retention/exports.html", exports_context(target, request.user))
    try:
        jobs.request(target, form=request.POST.get("format", ""), actor=_user(request))
    except InvalidInputError as exc:
        why = str(exc)  # with a field's name in front, if one is wrong
        messages.error(request, f"No export was started: {why.partition(': ')[2] or why}.")
    return _back(target)


@page
def export_file(request: HttpRequest, export_id: UUID) -> HttpResponse:
    """Return the file of an export."""
    try:
        export = _export(request, export_id)
        return cast("HttpResponse", download(request, export, request.user))
    except ConflictError as exc:
        raise Http404(str(exc)) from exc


@page
@require_http_methods(["POST"])
def delete_export(request: HttpRequest, export_id: UUID) -> HttpResponse:
    """Delete an export and its file."""
    export = _export(request, export_id)
    target = export.customer or export.cluster
    try:
        jobs.remove(export, actor=_user(request))
    except ForbiddenError as exc:
        messages.error(request, str(exc))
    return redirect("fleet") if target is None else _back(target)


def _export(request: HttpRequest, export_id: UUID) -> Export:
    found = jobs.visible(request.user).filter(pk=export_id).first()
    if found is None:
        raise Http404
    return found


def _back(target: Customer | Cluster) -> HttpResponse:
    if isinstance(target, Cluster):
        return redirect(f"{reverse('cluster', args=[target.pk])}?tab=data#exports")
    return redirect(f"{reverse('customer', args=[target.pk])}#exports")


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)
