"""What was so and since when: of one cluster as a strip and a list, of the fleet as hours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString

from clusters import access, audit
from clusters.health import Health
from clusters.history import (
    StatePart,
    events_of,
    seconds_by_state,
    state_parts,
    states_of,
    worst_cells,
)
from clusters.models import Cluster, ClusterEvent
from clusters.selectors import FleetFilter, cluster_overviews, filter_overviews
from metrics.csv_downloads import history_csv
from metrics.series.windows import HOUR, utc_datetime
from opscenter.pages import format as fmt
from opscenter.pages.base import page
from opscenter.pages.reasons import linked
from opscenter.pages.time_range import LENGTHS, Range, read_range

DEFAULT_RANGE = "7d"
ROWS_PAGE = 100
FILE_LINES = 10_000
MAX_PARTS = 300
"""A strip with more parts shows cells with the worst state of each instead."""
CELLS = 240
FLEET_HOURS = (24, 48)
FLEET_PAGE = 200
_NOTABLE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the list.

    Attributes:
        event: the row of the history.
        seconds: how long it lasted, until now if it is still so.
        text: what was so, in which names of nodes are links.
        known_late: whether it was known more than a minute after it began.
        end_known_late: the same of its end.
    """

    event: ClusterEvent
    seconds: float
    text: SafeString
    known_late: bool
    end_known_late: bool


@dataclass(frozen=True, slots=True)
class StripPart:
    """One part of a strip: its width in percent, and what it says."""

    part: StatePart
    width: float
    text: str


def history_context(
    request: HttpRequest, cluster: Cluster, chosen: Range, health: Health
) -> dict[str, Any]:
    """Return the strip and a page of the list of one cluster, over a range."""
    key = request.GET.get("key", "")[:500].replace("\0", "")
    now = utc_datetime(chosen.now)
    found = events_of(cluster, utc_datetime(chosen.start), utc_datetime(chosen.end), key)
    events = Paginator(found, ROWS_PAGE).get_page(request.GET.get("page"))
    return {
        "show_range": True,
        "key": key,
        "events": events,
        "event_rows": _rows(list(events), now),
        **strip_context(cluster, chosen.start, chosen.end, chosen.now, health),
    }


def strip_context(
    cluster: Cluster, start: int, end: int, now: int, health: Health
) -> dict[str, Any]:
    """Return the strip of one cluster's states in ``[start, end)``, Unix seconds. One query."""
    rows = states_of([cluster.pk], start, end)[cluster.pk]
    parts = state_parts(rows, start, end, health, now)
    if len(parts) > MAX_PARTS:
        shown = worst_cells(parts, start, end, max(60, -(-(end - start) // CELLS)))
    else:
        shown = parts
    words = [f"{state_word(s)} {fmt.duration(n)}" for s, n in seconds_by_state(parts).items()]
    return {
        "strip": [
            StripPart(
                part,
                100 * part.seconds / (end - start),
                f"{state_word(part.state)}, {fmt.duration(part.seconds)}",
            )
            for part in shown
        ],
        "strip_words": ", ".join(words),
        "strip_start": start,
        "strip_end": end,
        "strip_is_cells": shown is not parts,
    }


def state_word(state: str) -> str:
    """Return the word for a state of the history; "" is what nobody recorded."""
    return fmt.word(state) if state else "not recorded"


@page
def fleet_history(request: HttpRequest) -> HttpResponse:
    """Show one row a cluster and one cell an hour, each with its worst state. Two queries."""
    now = datetime.now(UTC)
    overviews = cluster_overviews(access.visible_clusters(request.user), now)
    wanted = FleetFilter.from_query(request.GET)
    fitting = filter_overviews(overviews, wanted)
    page_of = Paginator(fitting, FLEET_PAGE).get_page(request.GET.get("page"))
    hours, start, end = _hours(request, int(now.timestamp()))
    known_end = min(end, int(now.timestamp()))
    states = states_of([o.id for o in page_of], start, known_end)
    rows = []
    for o in page_of:
        parts = state_parts(states[o.id], start, known_end, o.health, int(now.timestamp()))
        rows.append((o, worst_cells(parts, start, known_end, HOUR)))
    context = {
        "now": now, "section": "history", "rows": rows, "clusters": page_of, "hours": hours,
        "choices": FLEET_HOURS, "start": start, "end": known_end,
        "earlier": end - hours * HOUR,
        "later": end + hours * HOUR if end <= now.timestamp() else 0,
        "live": end > now.timestamp(), "q": wanted.q, "all_count": len(overviews),
    }  # fmt: skip
    return render(request, "fleet/history.html", context)


@page
def history_file(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Return the history of a range as CSV, its newest :data:`FILE_LINES` lines."""
    cluster = access.get_cluster(request.user, cluster_id)
    chosen = read_history_range(request, datetime.now(UTC))
    key = request.GET.get("key", "")[:500].replace("\0", "")
    found = events_of(cluster, utc_datetime(chosen.start), utc_datetime(chosen.end), key)
    detail = {"what": "history of states", "start": chosen.start, "end": chosen.end, "key": key}
    actor = cast("User", request.user)
    audit.record("data.export", actor=actor, cluster_id=cluster.pk, detail=detail)
    return history_csv(cluster, found[:FILE_LINES])


def read_history_range(request: HttpRequest, now: datetime) -> Range:
    """Return the range of the URL, a week if it has none."""
    query = request.GET.dict()
    if "start" not in query and query.get("range") not in LENGTHS:
        query["range"] = DEFAULT_RANGE
    return read_range(query, now)


def _rows(events: Sequence[ClusterEvent], now: datetime) -> list[EventRow]:
    nodes = {_node_of(event.key) for event in events}
    return [_row(event, nodes, now) for event in events]


def _node_of(key: str) -> str:
    """Return the node that the key of a finding names; "" for none."""
    kind, _, rest = key.partition(":")
    if kind in ("node", "pressure", "no_numbers"):
        return rest
    return rest.partition(":")[0] if kind in ("filesystem", "inodes") else ""


def _row(event: ClusterEvent, nodes: Iterable[str], now: datetime) -> EventRow:
    ended = event.ended_at or now
    end_known = event.ended_known_at
    text = event.text if event.text or event.key == "state" else event.key
    return EventRow(
        event,
        (ended - event.began_at).total_seconds(),
        linked(text, event.cluster_id, nodes),
        event.began_known_at - event.began_at > _NOTABLE,
        event.ended_at is not None
        and end_known is not None
        and end_known - event.ended_at > _NOTABLE,
    )


def _hours(request: HttpRequest, now: int) -> tuple[int, int, int]:
    """Return how many hours are shown, and their start and end: whole hours, UTC."""
    text = request.GET.get("hours", "")
    hours = int(text) if text in map(str, FLEET_HOURS) else FLEET_HOURS[-1]
    newest = -(-(now + 1) // HOUR) * HOUR
    asked = request.GET.get("end", "")
    end = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 11 else newest
    end = max(hours * HOUR, min(end // HOUR * HOUR, newest))
    return hours, end - hours * HOUR, end
