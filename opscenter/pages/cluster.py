"""The cluster's page and its actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from clusters import access, legal_holds, services
from clusters.health import session_state
from clusters.models import AuditEvent, Cluster
from clusters.selectors import cluster_overview, judged, tunnel_sessions
from metrics import query
from metrics.connections.status import sourcing_of
from metrics.pulling.status import progress_of, pull_state
from metrics.series.windows import DAY, utc_datetime
from opscenter.core.errors import InvalidInputError
from opscenter.pages.base import page
from opscenter.pages.customer_retention import retention_context
from opscenter.pages.forms import ConfirmForm, LabelsForm
from opscenter.pages.history import history_context, read_history_range, strip_context
from opscenter.pages.ledger import runs
from opscenter.pages.notes import notes_of
from opscenter.pages.pod_words import PodWords, pod_words
from opscenter.pages.pods import POD_ORDERS, ranked, read_order, read_page, read_search
from opscenter.pages.series_blocks import capacities, chart_links, coverage_context, node_rows
from opscenter.pages.time_range import Range, choices, comparisons, read_range
from opscenter.pages.top_lists import choices_context, place, top_context

SESSIONS_PAGE = 50
WINDOWS_PAGE = 100
PODS_PAGE = 50
OVERVIEW_NODES = 12
OVERVIEW_PODS = 12
AUDIT_LINES = 50
STRIP_SECONDS = 7 * DAY  # of the states on the overview
ZONE_LABEL = "timezone"
"""The label that names a cluster's time zone, as IANA does: "Asia/Kolkata"."""


def shared_context(request: HttpRequest, cluster: Cluster, now: datetime) -> dict[str, Any]:
    """Return what every page about a cluster or a thing in it shows: health, range, rights."""
    of_history = request.GET.get("tab") == "history"
    ahead = query.seconds_ahead(cluster)
    if of_history:
        chosen = read_history_range(request, now)
    else:  # of minutes, which have the names that the cluster's own clock gave them
        chosen = read_range(request.GET.dict(), now + timedelta(seconds=ahead))
    may_be_raw = chosen.may_be_raw and query.has_raw(cluster)
    chosen = replace(chosen, raw=chosen.raw and may_be_raw)
    overview, pulls = cluster_overview(cluster, now), pull_state(cluster)
    return {
        "cluster": cluster,
        "o": overview,
        "pulls": pulls,
        "notes": notes_of(overview, pulls),
        "words": pod_words(cluster, overview),
        "now": now,
        "range": chosen,
        "ranges": choices(chosen),
        "comparisons": comparisons(chosen),
        "may_be_raw": may_be_raw,
        "clock_ahead": ahead,
        "cluster_zone": cluster.labels.get(ZONE_LABEL, ""),
        "raw_query": replace(chosen, raw=not chosen.raw).query,
        "range_back": chosen.shifted(-1),
        "range_on": chosen.shifted(1),
        "range_wide": chosen.widened(),
        "section": "fleet",
        "may_operate": access.may(request.user, cluster, "operate_cluster"),
        "standing_holds": legal_holds.standing(cluster),
    }


@page
def cluster_page(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Show one cluster; ``tab`` chooses which part."""
    cluster = access.get_cluster(request.user, cluster_id)
    now = datetime.now(UTC)
    context = shared_context(request, cluster, now)
    tab = request.GET.get("tab", "overview")
    if tab not in _TABS or (tab == "settings" and not context["may_operate"]):
        tab = "overview"
    context |= {"tab": tab, "tabs": tab_links(context)}
    context |= _TABS[tab](request, cluster, context["range"])
    if "orders" in context:
        context["orders"] = context["words"].orders(context["orders"])
    return render(request, f"cluster/{tab}.html", context)


def missing(
    request: HttpRequest, cluster: Cluster, what: Literal["node", "pod"], name: str, ns: str = ""
) -> HttpResponse:
    """Answer 404 for what a visible cluster does not have, with the way back to the cluster.

    Args:
        request: the request.
        cluster: the cluster, visible to the user.
        what: the kind of thing.
        name: its name in the URL.
        ns: its namespace in the URL; "" for none.
    """
    context = {"cluster": cluster, "what": what, "name": name, "ns": ns, "tab": f"{what}s",
               "section": "fleet"}  # fmt: skip
    return render(request, "cluster/missing.html", context, status=404)


@page
@require_http_methods(["POST"])
def change_labels(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Set the cluster's labels."""
    cluster = access.get_cluster(request.user, cluster_id, "operate_cluster")
    form = LabelsForm(request.POST)
    if form.is_valid():
        try:
            labels = form.cleaned_data["labels"]
            services.update_cluster(cluster, labels=labels, actor=cast("User", request.user))
        except InvalidInputError as exc:
            form.add_error("labels", str(exc).partition(": ")[2] or str(exc))
        else:
            messages.success(request, "Labels saved.")
            return _to_settings(cluster)
    return _settings_again(request, cluster, labels_form=form)


@page
@require_http_methods(["POST"])
def revoke(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Refuse the cluster's tunnel from now on."""
    cluster = access.get_cluster(request.user, cluster_id, "operate_cluster")
    form = ConfirmForm(request.POST, expected=cluster.name)
    if not form.is_valid():
        return _settings_again(request, cluster, revoke_form=form)
    services.revoke_cluster(cluster, actor=cast("User", request.user))
    messages.success(request, f"{cluster.name} was revoked. Its key no longer works.")
    return _to_settings(cluster)


@page
@require_http_methods(["POST"])
def delete(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Delete the cluster and its data."""
    cluster = access.get_cluster(request.user, cluster_id, "operate_cluster")
    form = ConfirmForm(request.POST, expected=cluster.name)
    if not form.is_valid():
        return _settings_again(request, cluster, delete_form=form)
    name = cluster.name
    try:
        services.delete_cluster(cluster, actor=cast("User", request.user))
    except legal_holds.LegalHoldError as exc:
        form.add_error("name", str(exc))
        return _settings_again(request, cluster, delete_form=form)
    messages.success(request, f"{name} was deleted. The audit log keeps a record.")
    return redirect("fleet")


def _overview(request: HttpRequest, cluster: Cluster, chosen: Range) -> dict[str, Any]:
    del request
    now = chosen.now - query.seconds_ahead(cluster)
    pods = query.pods(cluster, chosen.now, limit=0)
    nodes = query.nodes(cluster, chosen.now)
    return {
        "show_range": True,
        "backfill": progress_of(cluster),
        "charts": chart_links(cluster, "cluster", chosen, measured=query.cluster_now(cluster)),
        "node_list": nodes,
        "node_rows": node_rows(cluster, nodes, pods, chosen)[:OVERVIEW_NODES],
        "nodes": capacities(nodes.items),
        "pods_now": pods,
        "top_pods": pods.items[:OVERVIEW_PODS],
        **strip_context(
            cluster,
            now - STRIP_SECONDS,
            now,
            now,
            judged(cluster, utc_datetime(now))[1],
        ),
        **coverage_context(cluster, chosen),
    }


def _nodes(request: HttpRequest, cluster: Cluster, chosen: Range) -> dict[str, Any]:
    del request
    nodes = query.nodes(cluster, chosen.now)
    return {
        "show_range": True,
        "node_list": nodes,
        "node_rows": node_rows(cluster, nodes, query.pods(cluster, chosen.now, limit=0), chosen),
    }


def _pods(request: HttpRequest, cluster: Cluster, chosen: Range) -> dict[str, Any]:
    order, search = read_order(request), read_search(request)
    shared = {"q": search, "order": order, "orders": POD_ORDERS, **choices_context(request)}
    if shared["over"] == "now":
        return shared | _pods_now(request, cluster, chosen, order, search)
    number = read_page(request)
    found = top_context(
        request, [cluster], field=ranked(order), search=search, now=chosen.now, page=number,
        page_size=PODS_PAGE, cluster=cluster,
    )  # fmt: skip
    return shared | found | place(number, PODS_PAGE, found["total"])


def _pods_now(
    request: HttpRequest, cluster: Cluster, chosen: Range, order: str, search: str
) -> dict[str, Any]:
    found = query.pods(cluster, chosen.now, order=order, limit=0, search=search)
    gone = query.gone_pods(cluster, search=search)
    show_gone = request.GET.get("show") == "gone"
    shown = gone if show_gone else found
    return {
        "gone": gone,
        "show_gone": show_gone,
        "found": found,
        "pods_page": Paginator(shown.items, PODS_PAGE).get_page(request.GET.get("page")),
        "nodes": capacities(query.nodes(cluster, chosen.now).items),
    }


def _history(request: HttpRequest, cluster: Cluster, chosen: Range) -> dict[str, Any]:
    return history_context(request, cluster, chosen, judged(cluster, utc_datetime(chosen.now))[1])


def _data(request: HttpRequest, cluster: Cluster, chosen: Range) -> dict[str, Any]:
    show_all = request.GET.get("show") == "all"
    read = query.windows if show_all else query.odd_windows
    found = read(cluster, chosen.start, chosen.end)
    found.sort(key=lambda window: -window.start)
    folded = runs(found, fold=not show_all)
    return {
        "show_range": True,
        "position": query.position(cluster),
        "sourcing": sourcing_of(cluster, with_offered=False),
        "backfill": progress_of(cluster),
        "runs": Paginator(folded, WINDOWS_PAGE).get_page(request.GET.get("page")),
        "show_all": show_all,
        **coverage_context(cluster, chosen),
        **retention_context(request, cluster, chosen.now - query.seconds_ahead(cluster)),
    }


def _tunnel(request: HttpRequest, cluster: Cluster, chosen: Range) -> dict[str, Any]:
    now = datetime.fromtimestamp(chosen.now, UTC)
    pages = Paginator(tunnel_sessions(cluster), SESSIONS_PAGE)
    sessions = pages.get_page(request.GET.get("page"))
    rows = [
        (
            session,
            ((session.ended_at or session.seen_at) - session.connected_at).total_seconds(),
            session_state(session.state, session.ended_at, session.seen_at, now),
        )
        for session in sessions
    ]
    return {"sessions": sessions, "session_rows": rows}


def _settings(request: HttpRequest, cluster: Cluster, chosen: Range) -> dict[str, Any]:
    del chosen, request
    labels = "\n".join(f"{key}={value}" for key, value in cluster.labels.items())
    return {
        "labels_form": LabelsForm(initial={"labels": labels}),
        "revoke_form": ConfirmForm(expected=cluster.name, auto_id="revoke_%s"),
        "delete_form": ConfirmForm(expected=cluster.name, auto_id="delete_%s"),
        "sourcing": sourcing_of(cluster),
        "keys": cluster.keys.order_by("-created_at")[:20],
        "audit": AuditEvent.objects.filter(cluster_id=cluster.pk).order_by("-id")[:AUDIT_LINES],
    }


_TABS: dict[str, Callable[[HttpRequest, Cluster, Range], dict[str, Any]]] = {
    "overview": _overview,
    "nodes": _nodes,
    "pods": _pods,
    "history": _history,
    "data": _data,
    "tunnel": _tunnel,
    "settings": _settings,
}


def tab_links(context: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (name, words) of the tabs that the user may open."""
    o = context["o"]
    words: PodWords = context["words"]
    tabs = [
        ("overview", "Overview"),
        ("nodes", f"Nodes {o.nodes_total}" if o.nodes_total is not None else "Nodes"),
        ("pods", f"{words.title} {o.pods}" if o.pods is not None else words.title),
        ("history", "History"),
        ("data", "Data and gaps"),
        ("tunnel", "Tunnel"),
    ]
    if context["may_operate"]:
        tabs.append(("settings", "Settings"))
    return tabs


def _to_settings(cluster: Cluster) -> HttpResponseRedirect:
    return redirect(f"{reverse('cluster', args=[cluster.pk])}?tab=settings")


def _settings_again(request: HttpRequest, cluster: Cluster, **forms: Any) -> HttpResponse:
    """Show the settings with the form that was refused."""
    context = shared_context(request, cluster, datetime.now(UTC))
    context |= {"tab": "settings", "tabs": tab_links(context)}
    context |= _settings(request, cluster, context["range"]) | forms
    return render(request, "cluster/settings.html", context, status=422)
