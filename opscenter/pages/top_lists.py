"""Lists of the largest pods over a range, on the pages of the fleet and of one cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse

from clusters.models import Cluster
from metrics import query
from metrics.query import By
from metrics.series.catalog import Kind
from metrics.series.windows import DAY

OVER = {
    "now": (0, "last minute"),
    "1h": (3600, "last hour"),
    "6h": (6 * 3600, "6 hours"),
    "24h": (DAY, "24 hours"),
    "7d": (7 * DAY, "7 days"),
    "90d": (90 * DAY, "90 days"),
}
"""Name in the URL -> seconds and words; "now" is the newest minute of each cluster."""

LENGTH = {"1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "90d": "90 days"}
"""Name in the URL -> how long that is."""

LAST_PAGE = 20
"""Of more series than these pages hold, it is said that there are more."""

BY = {"mean": "mean", "max": "highest"}


@dataclass(frozen=True, slots=True)
class TopRow:
    """One row of a list: ``ratio`` is its value as a share of the largest one."""

    rank: int
    entry: query.TopEntry
    value: float
    ratio: float


def read_over(request: HttpRequest) -> str:
    """Return the range in the URL; "now" if it names none."""
    over = request.GET.get("over", "")
    return over if over in OVER else "now"


def read_by(request: HttpRequest) -> By:
    """Return the order of the list; the mean if the URL names none."""
    return "max" if request.GET.get("by") == "max" else "mean"


def top_context(  # noqa: PLR0913 - a query's parameters
    request: HttpRequest,
    clusters: Iterable[Cluster],
    *,
    field: str,
    search: str,
    now: int,
    page: int,
    page_size: int,
    cluster: Cluster | None = None,
    customer: str = "",
) -> dict[str, Any]:
    """Return what a list over a range shows.

    Args:
        request: the request, whose URL holds the range and the order.
        clusters: the clusters, visible to the user.
        field: field of a pod in the catalogue.
        search: a part of the namespace or name; "" for all.
        now: Unix time in seconds.
        page: number of the page, from 1.
        page_size: rows per page.
        cluster: the cluster of the page; None on the fleet's.
        customer: name of the customer that the page is narrowed to; "" for none.
    """
    seconds, words = OVER[read_over(request)]
    by = read_by(request)
    kind: Kind = "pod"
    with query.reading(request.user.pk):
        answer = query.top(
            clusters, kind, field, now - seconds, now, now=now, by=by, search=search,
            limit=page_size, skip=(page - 1) * page_size, count_to=page_size * LAST_PAGE + 1,
        )  # fmt: skip
    largest = abs(answer.largest) or 1
    rows = [
        TopRow(rank, entry, entry.value(by), entry.value(by) / largest)
        for rank, entry in enumerate(answer.entries, (page - 1) * page_size + 1)
    ]
    parameters = {"kind": kind, "field": field, "by": by, "start": now - seconds, "end": now,
             "limit": 500, "format": "csv"}  # fmt: skip
    parameters |= ({"q": search} if search else {}) | ({"customer": customer} if customer else {})
    csv_url = reverse("api:cluster_top", args=[cluster.pk]) if cluster else reverse("api:top")
    return {
        "top": answer,
        "top_rows": rows,
        "top_words": words,
        "top_length": LENGTH[read_over(request)],
        "top_by": BY[by],
        "top_other": BY["mean" if by == "max" else "max"],
        "top_csv": f"{csv_url}?{urlencode(parameters)}",
        "total": answer.total,
    }


def choices_context(request: HttpRequest) -> dict[str, Any]:
    """Return the choices of a list's form: ranges and orders."""
    return {
        "over": read_over(request),
        "overs": [(name, words) for name, (_, words) in OVER.items()],
        "by": cast("str", read_by(request)),
        "bys": BY,
    }


def place(page: int, page_size: int, total: int) -> dict[str, Any]:
    """Return what the pager says of page ``page`` of a list of which ``total`` were found."""
    most = LAST_PAGE * page_size
    return {
        "previous": page - 1,
        "next": page + 1 if total > page * page_size and page < LAST_PAGE else 0,
        "first": (page - 1) * page_size + 1,
        "last": min(total, page * page_size),
        "total": min(total, most),
        "counted_out": total > most,
        "at_end": page == LAST_PAGE and total > most,
    }
