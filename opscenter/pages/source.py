"""Where a cluster's numbers come from: the form that tests a source through the tunnel at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from clusters import access
from clusters.models import Cluster
from clusters.tunnel.protocol import SERVICE_PORTS
from metrics.connections.config import (
    SourceConfig,
    read_config,
    remove_source,
    save_source,
    source_row,
)
from metrics.connections.probe import Report, agent_setting, openssh_option, try_source
from metrics.connections.status import SourceView, sourcing_of
from metrics.sources.kinds import KINDS
from opscenter.core.errors import InvalidInputError, NotFoundError
from opscenter.pages.base import page
from opscenter.pages.cluster import shared_context, tab_links
from opscenter.pages.source_forms import SourceForm


@page
@require_http_methods(["GET", "HEAD", "POST"])
def source(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Show the sources and the form of one kind; POST tests it, and saves it if the test passes."""
    cluster = access.get_cluster(request.user, cluster_id, "operate_cluster")
    current = sourcing_of(cluster)
    kind = request.GET.get("kind") or (
        current.main.kind if current.main.kind in KINDS else next(iter(KINDS))
    )
    if kind not in KINDS:
        raise Http404
    shown = current.etcd if KINDS[kind].role == "etcd" else current.main
    stored = shown if shown is not None and shown.kind == kind else None
    form = SourceForm(
        request.POST if request.method == "POST" else None,
        kind=kind,
        initial=_initial(kind, stored),
        secrets_set=stored.secrets_set if stored else [],
    )
    report = stored.report if stored else None
    if request.method == "POST":
        config = _read(form, cluster)
        report = None
        if config is not None:
            actor = cast("User", request.user)
            report = try_source(cluster, config, actor=actor)
            if report.ok and request.POST.get("step") != "test":
                save_source(cluster, config, actor=actor, probe=report.as_json())
                messages.success(request, f"{KINDS[kind].title}: saved and tested.")
                return redirect(f"{request.path}?kind={kind}")
    return _show(request, cluster, form, report, just_tested=request.method == "POST")


@page
@require_http_methods(["POST"])
def remove(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Go back to the agent's own collectors, or stop reading etcd."""
    cluster = access.get_cluster(request.user, cluster_id, "operate_cluster")
    role = "etcd" if request.POST.get("role") == "etcd" else "main"
    try:
        remove_source(
            cluster, "etcd" if role == "etcd" else "main", actor=cast("User", request.user)
        )
    except NotFoundError:
        messages.info(request, "No such source was set.")
    else:
        message = (
            "etcd is no longer read."
            if role == "etcd"
            else "The agent's own collectors are used from now on. Stored data is kept."
        )
        messages.success(request, message)
    return redirect("cluster_source", cluster_id=cluster.pk)


def _read(form: SourceForm, cluster: Cluster) -> SourceConfig | None:
    """Return what was entered; None with the form's errors set."""
    if not form.is_valid():
        return None
    before = source_row(cluster, form.kind.role)
    try:
        return read_config(form.kind.name, **form.given(), before=before)
    except InvalidInputError as exc:
        field, _, message = str(exc).partition(": ")
        form.add_error(field if field in form.fields else None, message or str(exc))
        return None


def _show(
    request: HttpRequest,
    cluster: Cluster,
    form: SourceForm,
    report: Report | None,
    *,
    just_tested: bool,
) -> HttpResponse:
    current = sourcing_of(cluster)
    entered = form["service"].value()
    service = entered if entered in SERVICE_PORTS else form.kind.service
    context = shared_context(request, cluster, datetime.now(UTC))
    context |= {
        "tab": "settings",
        "tabs": tab_links(context),
        "form": form,
        "kinds": list(KINDS.values()),
        "current": current,
        "report": report,
        "just_tested": just_tested,
        "tested_at": None if just_tested else _tested_at(form, current.main, current.etcd),
        "is_offered": service in current.offered,
        "service": service,
        "agent_setting": agent_setting(service),
        "openssh_option": openssh_option(service),
    }
    failed = bool(form.errors) or (just_tested and report is not None and not report.ok)
    return render(request, "source/source.html", context, status=422 if failed else 200)


def _tested_at(form: SourceForm, *views: SourceView | None) -> datetime | None:
    """Return when the form's source was last tested."""
    same = (view for view in views if view is not None and view.kind == form.kind.name)
    return next((view.tested_at for view in same), None)


def _initial(kind: str, stored: SourceView | None) -> dict[str, Any]:
    """Return the form's initial values: what is set, else the kind's defaults."""
    about = KINDS[kind]
    if stored is None:
        return {"service": about.service, "scheme": "http", **about.settings}
    return {"service": stored.service, "scheme": stored.scheme, **stored.settings}
