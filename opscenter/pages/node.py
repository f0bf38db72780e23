"""The page of one node: its charts, filesystems and pods; also after it is gone."""

from __future__ import annotations

from dataclasses import replace
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
from clusters.node_inventory import dismiss_node, node_of, node_state, require_missing
from metrics import query
from opscenter.core.errors import ConflictError
from opscenter.pages.base import page
from opscenter.pages.cluster import missing, shared_context
from opscenter.pages.lost_node import (
    DAYS_BACK,
    PODS_DAYS,
    SHOWN_FIELDS,
    LostNode,
    by_our_clock,
    is_lost,
    lost_node,
)
from opscenter.pages.pods import POD_ORDERS, read_order
from opscenter.pages.series_blocks import chart_links, counts_pods, coverage_context
from opscenter.pages.time_range import Range


@page
def node_page(request: HttpRequest, cluster_id: UUID, name: str) -> HttpResponse:
    """Show one node of a cluster."""
    cluster = access.get_cluster(request.user, cluster_id)
    detail = query.node(cluster, name)
    if detail is None:
        return missing(request, cluster, "node", name)
    context = shared_context(request, cluster, datetime.now(UTC))
    chosen = context["range"]
    order = read_order(request)
    inventory = inventory_context(cluster, name)
    lost = _lost(cluster, detail.now, chosen.now, is_removed=inventory["is_removed"])
    pods = query.pods(cluster, chosen.now, order=order, limit=0, node=name)
    context |= {
        "thing": name,
        "thing_kind": "Nodes",
        "thing_tab": "nodes",
        "node": detail.now,
        "detail": detail,
        "as_of": detail.now.as_of,
        "show_range": True,
        "charts": chart_links(cluster, "node", chosen, name=name, measured=detail.now),
        "filesystems": [
            (item, chart_links(cluster, "filesystem", chosen, ns=name, name=item.name))
            for item in query.filesystems(cluster, chosen.now, node=name).items
        ],
        "pods": pods,
        "lost": by_our_clock(lost, query.seconds_ahead(cluster)),
        "lost_days": DAYS_BACK,
        "lost_pod_days": PODS_DAYS,
        "values": _values(detail.now, lost),
        "before_loss": _before(lost, chosen),
        "counts_pods": context["o"].pods is not None
        or bool(pods.items)
        or counts_pods([detail.now]),
        "order": order,
        "orders": context["words"].orders(POD_ORDERS),
        "nodes": {name: detail.now},
    }
    context |= inventory
    context |= coverage_context(cluster, chosen)
    return render(request, "cluster/node.html", context)


@page
@require_http_methods(["POST"])
def dismiss(request: HttpRequest, cluster_id: UUID, name: str) -> HttpResponse:
    """Say that a missing node is gone for good."""
    cluster = access.get_cluster(request.user, cluster_id, "operate_cluster")
    row = node_of(cluster, name)
    if row is None:
        raise Http404
    try:
        require_missing(cluster, row)
    except ConflictError as exc:
        messages.error(request, str(exc).partition(": ")[2].capitalize() + ".")
    else:
        user = cast("User", request.user)
        dismiss_node(cluster, name, user=user, actor=user, now=datetime.now(UTC))
        messages.success(request, f"{name} was dismissed: it counts no more from the next pull on.")
    return redirect("node", cluster_id=cluster.pk, name=name)


def inventory_context(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return the node's row of the inventory, and its place in the cluster; one query."""
    row = node_of(cluster, name)
    current = getattr(cluster, "current", None)
    as_of = None if current is None else current.data_as_of
    place = "" if row is None else node_state(row, as_of)
    return {
        "in_inventory": row,
        "node_place": place,
        "is_removed": place in ("removed", "dismissed"),
    }


def _lost(
    cluster: Cluster, node: query.SeriesNow, now: int, *, is_removed: bool
) -> LostNode | None:
    """Return what is known of a lost node; None if it is not, or history cannot be read now."""
    if not is_lost(node):
        return None
    try:
        return lost_node(cluster, node, now, is_removed=is_removed)
    except query.MetricsUnavailableError:
        return None


def _values(node: query.SeriesNow, lost: LostNode | None) -> dict[str, float | None]:
    """Return the node's values by field; of a lost one the last that were measured."""
    newest: dict[str, float | None] = dict(node.values)
    if lost is None or lost.values_at is None:
        return newest
    return newest | {field: lost.values.get(field) for field in SHOWN_FIELDS}


def _before(lost: LostNode | None, chosen: Range) -> Range | None:
    """Return the range that ends with the node's last values, if the chosen one is after them."""
    if lost is None or lost.values_at is None or lost.values_at > chosen.start:
        return None
    return replace(chosen, start=lost.values_at - chosen.seconds, end=lost.values_at, name="")
