"""Pods over all clusters that the user sees: search, and top by what they use."""

from __future__ import annotations

from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from clusters import access
from metrics import query
from opscenter.views.base import page

PAGE_SIZE = 50
LAST_PAGE = 20
POD_ORDERS = {
    "cpu_mc": "CPU",
    "mem_ws": "memory",
    "net_rx_bps": "network received",
    "net_tx_bps": "network sent",
    "restarts": "restarts",
    "name": "name",
}
WITHIN = {"15m": (900, "15 minutes"), "1d": (86_400, "1 day"), "7d": (7 * 86_400, "7 days")}


def read_order(request: HttpRequest) -> str:
    """Return the order in the URL; CPU where it names none."""
    order = request.GET.get("order", "")
    return order if order in POD_ORDERS else "cpu_mc"


def read_page(request: HttpRequest) -> int:
    """Return the number of the page in the URL, 1 to :data:`LAST_PAGE`."""
    text = request.GET.get("page", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1
    return min(max(number, 1), LAST_PAGE)


@page
def pods(request: HttpRequest) -> HttpResponse:
    """Show pods of all visible clusters, the largest first."""
    now = datetime.now(UTC)
    text = request.GET.get("q", "").strip()[:200]
    customer = request.GET.get("customer", "")
    within = request.GET.get("within", "")
    if within not in WITHIN:
        within = "7d" if text else "15m"
    order, number = read_order(request), read_page(request)
    clusters = access.visible_clusters(request.user).select_related("customer")
    names = sorted({cluster.customer.name for cluster in clusters if cluster.customer})
    chosen = [
        cluster
        for cluster in clusters
        if not customer or (cluster.customer and cluster.customer.name == customer)
    ]
    found = query.search_pods(
        chosen,
        text,
        now=int(now.timestamp()),
        order="" if order == "name" else order,
        limit=number * PAGE_SIZE + 1,
        within_seconds=WITHIN[within][0],
    )
    skipped = (number - 1) * PAGE_SIZE
    context = {
        "now": now,
        "section": "pods",
        "q": text,
        "customer": customer,
        "customers": names,
        "within": within,
        "withins": [(key, words) for key, (_, words) in WITHIN.items()],
        "order": order,
        "orders": POD_ORDERS,
        "found": found[skipped : skipped + PAGE_SIZE],
        "first": skipped + 1,
        "last": min(len(found), skipped + PAGE_SIZE),
        "previous": number - 1,
        "next": number + 1 if len(found) > number * PAGE_SIZE and number < LAST_PAGE else 0,
        "at_end": number == LAST_PAGE,
        "cluster_count": len(chosen),
    }
    return render(request, "pods/pods.html", context)
