"""Pods over all clusters that the user sees: search, and top by what they use."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from clusters import access, audit
from clusters.models import Cluster
from metrics import query
from metrics.csv_downloads import pods_csv
from metrics.series.windows import DAY
from opscenter.pages.base import page
from opscenter.pages.top_lists import LAST_PAGE, choices_context, place, top_context

PAGE_SIZE = 50
FILE_LINES = 500
"""How many of the fleet's pods a file holds: as many as that of a list over a range."""

POD_ORDERS = {
    "cpu_mc": "CPU",
    "mem_ws": "memory",
    "net_rx_bps": "network received",
    "net_tx_bps": "network sent",
    "restarts": "restarts",
    "name": "name",
}
WITHIN = {"15m": (900, "15 minutes"), "1d": (DAY, "1 day"), "7d": (7 * DAY, "7 days")}


def read_order(request: HttpRequest) -> str:
    """Return the order in the URL; CPU if it names none."""
    order = request.GET.get("order", "")
    return order if order in POD_ORDERS else "cpu_mc"


def ranked(order: str) -> str:
    """Return the field that orders a list over a range: a name has no amount."""
    return "cpu_mc" if order == "name" else order


def read_page(request: HttpRequest) -> int:
    """Return the number of the page in the URL, 1 to :data:`LAST_PAGE`."""
    text = request.GET.get("page", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1
    return min(max(number, 1), LAST_PAGE)


@page
def pods(request: HttpRequest) -> HttpResponse:
    """Show pods of all visible clusters, the largest first."""
    now = datetime.now(UTC)
    text, customer, within = read_search(request), request.GET.get("customer", ""), _within(request)
    order, number = read_order(request), read_page(request)
    clusters = access.visible_clusters(request.user).select_related("customer", "current")
    names = sorted({cluster.customer.name for cluster in clusters if cluster.customer})
    chosen = _of_customer(clusters, customer)
    context: dict[str, Any] = {
        "now": now,
        "section": "pods",
        "q": text,
        "customer": customer,
        "customers": names,
        "within": within,
        "withins": [(key, words) for key, (_, words) in WITHIN.items()],
        "order": order,
        "orders": POD_ORDERS,
        "cluster_count": len(chosen),
        "has_clusters": bool(clusters),
        "file_lines": FILE_LINES,
        **choices_context(request),
    }
    if context["over"] == "now":
        context |= _newest(chosen, text, order, WITHIN[within][0], number, int(now.timestamp()))
    else:
        context |= top_context(
            request, chosen, field=ranked(order), search=text, now=int(now.timestamp()),
            page=number, page_size=PAGE_SIZE, customer=customer,
        )  # fmt: skip
    context |= place(number, PAGE_SIZE, context["total"])
    return render(request, "pods/pods.html", context)


@page
def pods_file(request: HttpRequest) -> HttpResponse:
    """Return the list of the pods' newest minutes as CSV, its first :data:`FILE_LINES` lines."""
    text, order, within = read_search(request), read_order(request), _within(request)
    customer = request.GET.get("customer", "")
    visible = access.visible_clusters(request.user).select_related("customer", "current")
    with query.reading(request.user.pk):
        found = query.search_pods(
            _of_customer(visible, customer), text, now=int(datetime.now(UTC).timestamp()),
            order="" if order == "name" else order, limit=FILE_LINES,
            within_seconds=WITHIN[within][0],
        )  # fmt: skip
    detail = {"order": order, "q": text, "customer": customer, "within": within}
    _record(request, detail, None)
    return pods_csv(f"pods by {POD_ORDERS[order]}", found.items)


@page
def cluster_pods_file(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Return all pods of a cluster's newest minute as CSV; with ``show=gone`` the gone ones."""
    cluster = access.get_cluster(request.user, cluster_id)
    text, order = read_search(request), read_order(request)
    gone = request.GET.get("show") == "gone"
    now = int(datetime.now(UTC).timestamp())
    with query.reading(request.user.pk):
        if gone:
            found = query.gone_pods(cluster, search=text)
        else:
            found = query.pods(cluster, now, order=order, limit=0, search=text)
    _record(request, {"order": order, "q": text, "gone": gone}, cluster.pk)
    name = f"{cluster.name} pods {'gone' if gone else 'by ' + POD_ORDERS[order]}"
    return pods_csv(name, (query.FoundSeries(cluster, pod) for pod in found.items))


def read_search(request: HttpRequest) -> str:
    """Return the search text in the URL; "" for all."""
    return request.GET.get("q", "").strip()[:200]


def _within(request: HttpRequest) -> str:
    """Return how old a pod's newest minute may be; a search looks back further by itself."""
    within = request.GET.get("within", "")
    return within if within in WITHIN else "7d" if read_search(request) else "15m"


def _of_customer(clusters: Iterable[Cluster], name: str) -> list[Cluster]:
    """Return the clusters of one customer; all for ""."""
    return [
        cluster
        for cluster in clusters
        if not name or (cluster.customer and cluster.customer.name == name)
    ]


def _record(request: HttpRequest, detail: dict[str, Any], cluster_id: UUID | None) -> None:
    """Record in the audit log who exported numbers."""
    detail = {"what": "pods, newest minute", **detail}
    actor = cast("User", request.user)
    audit.record("data.export", actor=actor, cluster_id=cluster_id, detail=detail)


def _newest(
    clusters: list[Cluster], text: str, order: str, within_seconds: int, page: int, now: int
) -> dict[str, Any]:
    """Return a page of the pods' newest minutes."""
    found = query.search_pods(
        clusters, text, now=now, order="" if order == "name" else order, limit=PAGE_SIZE,
        skip=(page - 1) * PAGE_SIZE, count_to=LAST_PAGE * PAGE_SIZE + 1,
        within_seconds=within_seconds,
    )  # fmt: skip
    return {"found": found.items, "total": found.total}
