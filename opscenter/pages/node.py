"""The page of one node: its charts, filesystems and pods; also after it is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from clusters import access
from metrics import query
from opscenter.pages.base import page
from opscenter.pages.cluster import missing, shared_context
from opscenter.pages.pods import POD_ORDERS, read_order
from opscenter.pages.series_blocks import chart_links, counts_pods, coverage_context


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
        "counts_pods": bool(pods.items) or counts_pods([detail.now]),
        "order": order,
        "orders": context["words"].orders(POD_ORDERS),
        "nodes": {name: detail.now},
    }
    context |= coverage_context(cluster, chosen)
    return render(request, "cluster/node.html", context)
