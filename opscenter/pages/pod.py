"""The page of one pod: its charts against its node, and its siblings; also after it is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from clusters import access
from metrics import query
from opscenter.pages.base import page
from opscenter.pages.cluster import missing, shared_context
from opscenter.pages.kubernetes_words import workload as workload_of
from opscenter.pages.lost_node import is_listed
from opscenter.pages.series_blocks import capacities, chart_links, coverage_context

SHOWN_SIBLINGS = 50


@page
def pod_page(request: HttpRequest, cluster_id: UUID, ns: str, name: str) -> HttpResponse:
    """Show one pod of a cluster; on a plain host, one service or group of processes."""
    cluster = access.get_cluster(request.user, cluster_id)
    detail = query.pod(cluster, ns, name)
    if detail is None:
        return missing(request, cluster, "pod", name, ns)
    context = shared_context(request, cluster, datetime.now(UTC))
    chosen = context["range"]
    workload = workload_of(detail.now.attrs)
    siblings = [
        item
        for item in query.pods(cluster, chosen.now, limit=0).items
        if workload and item.ns == ns and workload_of(item.attrs) == workload
    ]
    context |= {
        "thing": name,
        "thing_kind": context["words"].title,
        "thing_tab": "pods",
        "pod": detail.now,
        "detail": detail,
        "node": query.node(cluster, detail.now.node) if detail.now.node else None,
        "is_listed": is_listed(detail.now),
        "lived": detail.now.as_of - detail.first_seen,
        "workload": workload,
        "siblings": siblings[:SHOWN_SIBLINGS],
        "sibling_count": len(siblings),
        "nodes": capacities(query.nodes(cluster, chosen.now).items),
        "as_of": detail.now.as_of,
        "show_range": True,
        "charts": chart_links(cluster, "pod", chosen, ns=ns, name=name, measured=detail.now),
    }
    context |= coverage_context(cluster, chosen)
    if context["words"].is_host:
        measured = detail.now.values
        context["charts"] = [
            chart
            for chart in context["charts"]
            if any(measured[field] is not None for field in chart.panel.fields)
        ]
    return render(request, "cluster/pod.html", context)
