"""Pods over all clusters that the user sees: search, and top by what they use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from clusters import access
from clusters.models import Cluster
from metrics import query
from opscenter.views.base import page
from opscenter.views.tops import choices_context, top_context

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


def ranked(order: str) -> str:
    """Return the field that a list over a range goes by: a name has no amount."""
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
        "at_end": number == LAST_PAGE,
        "previous": number - 1,
        **choices_context(request),
    }
    if context["over"] == "now":
        context |= _newest(chosen, text, order, WITHIN[within][0], number, int(now.timestamp()))
    else:
        context |= top_context(
            request, chosen, field=ranked(order), search=text, now=int(now.timestamp()),
            page=number, page_size=PAGE_SIZE, customer=customer,
        )  # fmt: skip
    context["next"] = number + 1 if context["more"] and number < LAST_PAGE else 0
    return render(request, "pods/pods.html", context)


def _newest(
    clusters: list[Cluster], text: str, order: str, within_seconds: int, page: int, now: int
) -> dict[str, Any]:
    """Return a page of the pods' newest minutes."""
    found = query.search_pods(
        clusters, text, now=now, order="" if order == "name" else order,
        limit=page * PAGE_SIZE + 1, within_seconds=within_seconds,
    )  # fmt: skip
    skipped = (page - 1) * PAGE_SIZE
    return {
        "found": found[skipped : skipped + PAGE_SIZE],
        "first": skipped + 1,
        "last": min(len(found), skipped + PAGE_SIZE),
        "more": len(found) > page * PAGE_SIZE,
    }
