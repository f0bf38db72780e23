"""The fleet page: the clusters that need attention, and all others, worst first.

Everything that is shown depends on the URL: ``q``, ``state``, ``customer``, ``label`` (see
:class:`clusters.selectors.FleetFilter`), ``notes=1`` (only clusters with notes), ``view`` (grid or
table), ``group`` (``customer``, ``agent`` or ``label:KEY``) and ``page``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render

from clusters import access
from clusters.health import WORST_FIRST
from clusters.models import Cluster
from clusters.selectors import (
    ClusterOverview,
    FleetFilter,
    cluster_overviews,
    filter_overviews,
    fleet_totals,
)
from metrics.pulling.status import PullState, odd_pulls
from opscenter.monitoring.readiness import centre_problem, pulls_problem
from opscenter.pages.base import is_fragment, page
from opscenter.pages.fleet_columns import FLEET_COLUMNS
from opscenter.pages.fleet_verdict import verdict
from opscenter.pages.notes import SLOW_PULL_MS, Note, notes_of

NEEDS_ATTENTION = ("critical", "degraded", "unknown")
ATTENTION_ROWS = 40
PAGE_SIZE = {"grid": 240, "table": 100}
MAX_UPDATES = 100
FEW = 6


@dataclass(frozen=True, slots=True)
class Chip:
    """A health state with its count, and the URL that switches the filter by it on or off."""

    state: str
    count: int
    url: str
    active: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Clusters under one heading; ``title`` is "" if the list is not grouped."""

    title: str
    clusters: list[ClusterOverview]
    total: int
    reporting: int


@page
def fleet(request: HttpRequest) -> HttpResponse:
    """Show the fleet; with ``part=list``, only one more page of the list of all clusters."""
    now = datetime.now(UTC)
    everything = cluster_overviews(access.visible_clusters(request.user), now)
    wanted = FleetFilter.from_query(request.GET)
    in_scope = filter_overviews(everything, replace(wanted, states=()))
    notes = _notes(in_scope)
    shown = _shown(request.GET, in_scope, wanted, notes)
    context = _list_context(request.GET, shown, len(everything)) | {
        "now": now, "section": "fleet", "notes": notes,
    }  # fmt: skip
    if is_fragment(request) and request.GET.get("part") == "list":
        return render(request, "fleet/list_page.html", context)
    context |= _summary_context(request.GET, everything, in_scope, wanted, now)
    context |= _notes_context(request.GET, notes)
    context |= _attention_context(shown)
    return render(request, "fleet/fleet.html", context)


@page
def updates(request: HttpRequest) -> HttpResponse:
    """Return the rows of the clusters in ``ids`` and the totals, for a swap in place.

    ``need`` and ``list`` name those that the page shows in its first and its second table; a page
    that names none gets both rows for each.

    The header names the place of each of them (its state, "" if the page's filter leaves it out),
    so that the page can show how many changes wait instead of moving rows about.
    """
    now = datetime.now(UTC)
    everything = cluster_overviews(access.visible_clusters(request.user), now)
    wanted = FleetFilter.from_query(request.GET)
    in_scope = filter_overviews(everything, replace(wanted, states=()))
    notes = _notes(in_scope)
    shown = _shown(request.GET, in_scope, wanted, notes)
    asked = set(_ids(request.GET.get("ids", "")))
    changed = [overview for overview in shown if overview.id in asked]
    context = _summary_context(request.GET, everything, in_scope, wanted, now) | {
        "now": now,
        **_notes_context(request.GET, notes),
        "changed": changed,
        "need": set(_ids(request.GET["need"])) if "need" in request.GET else asked,
        "list": set(_ids(request.GET["list"])) if "list" in request.GET else asked,
        "columns": FLEET_COLUMNS,
        "view": _view(request.GET, len(everything)),
    }
    response = render(request, "fleet/updates.html", context)
    places = dict.fromkeys(map(str, asked), "") | {str(o.id): o.health.state for o in changed}
    response["HX-Trigger"] = orjson.dumps({"fleet:places": {"places": places}}).decode()
    return response


def _notes(overviews: Iterable[ClusterOverview]) -> dict[UUID, list[Note]]:
    """Return the notes on those clusters that have any. One query."""
    odd, nothing = odd_pulls(SLOW_PULL_MS), PullState()
    found = ((o.id, notes_of(o, odd.get(o.id, nothing))) for o in overviews)
    return {cluster: notes for cluster, notes in found if notes}


def _shown(
    query: QueryDict,
    in_scope: Sequence[ClusterOverview],
    wanted: FleetFilter,
    notes: Mapping[UUID, list[Note]],
) -> list[ClusterOverview]:
    """Return the clusters that the chips leave: those of their states, and with notes if asked."""
    shown = filter_overviews(in_scope, FleetFilter(states=wanted.states))
    return [o for o in shown if o.id in notes] if _only_noted(query) else shown


def _only_noted(query: QueryDict) -> bool:
    return query.get("notes") == "1"


def _notes_context(query: QueryDict, notes: Mapping[UUID, list[Note]]) -> dict[str, Any]:
    """Return the notes, and the chip that filters by them."""
    active = _only_noted(query)
    url = _url(query, notes=None if active else "1", page=None)
    return {"notes": notes, "notes_url": url, "notes_active": active}


def _summary_context(
    query: QueryDict,
    everything: Sequence[ClusterOverview],
    in_scope: Sequence[ClusterOverview],
    wanted: FleetFilter,
    now: datetime,
) -> dict[str, Any]:
    """Return totals, chips and what the filter form offers."""
    totals = fleet_totals(in_scope, now)
    problem = centre_problem(now) or pulls_problem(now)
    label_keys = sorted({key for overview in everything for key in overview.labels})
    return {
        "totals": totals,
        "public_url": settings.PUBLIC_URL,
        "centre_problem": problem,
        "verdict": verdict(totals, problem),
        "all_count": len(everything),
        "chips": [_chip(query, wanted, state, totals.states[state]) for state in WORST_FIRST],
        "customer_count": len({o.customer for o in in_scope if o.customer}),
        "customers": sorted({o.customer for o in everything if o.customer}),
        "label_keys": label_keys,
        "label_filters": [
            (f"{key}={value}" if value else key, _without_label(query, key, value))
            for key, value in wanted.labels
        ],
        "q": wanted.q,
        "wanted": wanted,
        "filtered": bool(
            wanted.q or wanted.states or wanted.labels or wanted.customer or _only_noted(query)
        ),
        "keep": _hidden_fields(query),
    }


def _attention_context(shown: Sequence[ClusterOverview]) -> dict[str, Any]:
    """Return the clusters that need attention (of many, only the worst), and how many do not.

    ``idle_count`` are those that are not expected to report: waiting or revoked.
    """
    attention = [overview for overview in shown if overview.health.state in NEEDS_ATTENTION]
    healthy = sum(overview.health.state == "ok" for overview in shown)
    return {
        "healthy_count": healthy,
        "idle_count": len(shown) - len(attention) - healthy,
        "attention": attention[:ATTENTION_ROWS],
        "attention_count": len(attention),
        "attention_more": max(0, len(attention) - ATTENTION_ROWS),
    }


def _list_context(
    query: QueryDict, shown: Sequence[ClusterOverview], all_count: int
) -> dict[str, Any]:
    """Return one page of the list of all clusters, grouped as asked."""
    view, group = _view(query, all_count), query.get("group", "")
    number = max(1, _whole(query.get("page", "")))
    size = PAGE_SIZE[view]
    key = _group_key(group)
    placed = [(key(overview), overview) for overview in shown]
    if group:
        first_of: dict[str, int] = {}
        for index, (title, _) in enumerate(placed):
            first_of.setdefault(title, index)
        placed.sort(key=lambda pair: first_of[pair[0]])  # the group with the worst cluster first
    chunk = placed[(number - 1) * size : number * size]
    return {
        "view": view,
        "group": group,
        "groups": list(_groups(chunk, placed, named=bool(group))),
        "shown_count": len(shown),
        "complete": number == 1 and len(shown) <= size,
        "next_url": _url(query, page=str(number + 1)) if number * size < len(shown) else "",
        "columns": FLEET_COLUMNS,
        "views": [(name, _url(query, view=name, page=None)) for name in PAGE_SIZE],
    }


def _groups(
    chunk: Iterable[tuple[str, ClusterOverview]],
    everything: Sequence[tuple[str, ClusterOverview]],
    *,
    named: bool,
) -> Iterable[Group]:
    """Split a page of the list where its heading changes; counts are of the whole group."""
    totals: dict[str, list[int]] = {}
    for title, overview in everything:
        count = totals.setdefault(title, [0, 0])
        count[0] += overview.status == Cluster.Status.ACTIVE
        count[1] += overview.reporting
    for title, pairs in groupby(chunk, key=lambda pair: pair[0]):
        total, reporting = totals[title]
        yield Group(title if named else "", [o for _, o in pairs], total, reporting)


def _group_key(group: str) -> Callable[[ClusterOverview], str]:
    """Return what a cluster is grouped by; an unknown grouping is none."""
    if group == "customer":
        return lambda overview: overview.customer or "No customer"
    if group == "agent":
        return lambda overview: overview.agent_version or "No agent yet"
    if group.startswith("label:"):
        key = group.removeprefix("label:")
        return lambda overview: overview.labels.get(key) or f"No {key}"
    return lambda overview: ""  # noqa: ARG005 - one group


def _chip(query: QueryDict, wanted: FleetFilter, state: str, count: int) -> Chip:
    active = state in wanted.states
    states = [s for s in wanted.states if s != state] if active else [*wanted.states, state]
    return Chip(state, count, _url(query, state=states, page=None), active)


def _without_label(query: QueryDict, key: str, value: str) -> str:
    text = f"{key}={value}" if value else key
    return _url(query, label=[label for label in query.getlist("label") if label != text])


def _hidden_fields(query: QueryDict) -> list[tuple[str, str]]:
    """Return the parameters that the filter form passes on as hidden fields."""
    names = ("state", "label", "notes", "view")
    return [(name, value) for name in names for value in query.getlist(name)]


def _url(query: QueryDict, **changes: str | list[str] | None) -> str:
    """Return the page's URL with some parameters changed; None and [] remove one."""
    new = query.copy()
    for name in ("ids", "need", "list", "part", *changes):
        new.pop(name, None)
    for name, value in changes.items():
        if isinstance(value, list):
            new.setlist(name, value)
        elif value is not None:
            new[name] = value
    encoded = new.urlencode()
    return f"/?{encoded}" if encoded else "/"


def _view(query: QueryDict, all_count: int) -> str:
    """Return how all clusters are shown: by default a few as a table, many as a grid."""
    view = query.get("view", "")
    if view in PAGE_SIZE:
        return view
    return "table" if all_count <= FEW else "grid"


def _ids(text: str) -> Iterable[UUID]:
    """Return the UUIDs of a comma-separated list, skipping anything else."""
    for part in text.split(",")[:MAX_UPDATES]:
        try:
            yield UUID(part)
        except ValueError:
            continue


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1
