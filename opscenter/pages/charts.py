"""One chart of one series: as JSON for the page, as a table, as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from clusters import access, audit
from clusters.models import Cluster
from metrics import query
from metrics.charts.figure import (
    POINTS,
    Former,
    change_text,
    chart_json,
    covered_text,
    figure,
    missing,
    reason_text,
    top_of,
)
from metrics.charts.panels import Column, Panel, columns, panel_of
from metrics.csv_downloads import PanelPart, panel_csv
from metrics.query import former_bucket
from metrics.series.catalog import Kind
from opscenter.core.budgets import BudgetError
from opscenter.core.errors import ClusterError, InvalidInputError
from opscenter.core.text import minute_utc
from opscenter.pages.base import page
from opscenter.pages.format import UNKNOWN, by_unit, percent
from opscenter.pages.time_range import LENGTHS, Range, read_range

_POINTS = {"json": POINTS, "csv": 1440, "html": 240, "raw": 2}
_Line = tuple[float, float | None, float | None, float]
"""Mean, lowest, highest and coverage of one bucket."""

FAR = 5
"""A limit this many times above the highest value would press the line flat to the axis."""

_POD_CAPACITY = {"cpu": "cpu_cap_mc", "memory": "mem_cap"}


@page
def chart(request: HttpRequest, cluster_id: UUID, panel: str, form: str) -> HttpResponse:
    """Return a panel of ``kind``, ``ns`` and ``name`` over the range in the URL."""
    cluster = access.get_cluster(request.user, cluster_id)
    kind = request.GET.get("kind", "cluster")
    found = panel_of(kind, panel)
    if found is None or form not in _POINTS:
        raise Http404
    key = query.SeriesKey(
        cast("Kind", kind), request.GET.get("ns", ""), request.GET.get("name", "")
    )
    now = datetime.now(UTC) + timedelta(seconds=query.seconds_ahead(cluster))
    chosen = read_range(request.GET.dict(), now)
    if form == "raw":
        return _raw(cluster, key, found, chosen, user=cast("User", request.user).pk)
    points = _POINTS[form]
    with query.reading(request.user.pk):
        answers = query.fields_query(
            cluster, key, found.fields, chosen.start, chosen.end, points, now=chosen.now
        )
        former = _former(cluster, key, found, chosen, points)
    if form == "csv":
        what = {"kind": kind, "ns": key.ns[:300], "name": key.name[:300], "panel": found.name}
        span = {"start": chosen.start, "end": chosen.end}
        audit.record(
            "data.export", actor=cast("User", request.user), cluster_id=cluster.pk,
            detail=what | span,
        )  # fmt: skip
        return _csv(cluster, key, found, answers, former)
    first = answers[found.lines[0].field]
    if form == "html":
        covered = covered_text(sum(first.samples), first.due)
        return _table(request, found, answers, former, covered)
    limit = _node_capacity(cluster, key, found, answers)
    content = figure(found, answers, former=former, **limit)
    both = (answers, former.answers) if former else (answers,)
    if not any(column.t for each in both for column in columns(found, each)):
        content = _nothing(cluster, key, found, answers)
    return HttpResponse(content, content_type="application/json")


def _former(
    cluster: Cluster, key: query.SeriesKey, panel: Panel, chosen: Range, points: int
) -> Former | None:
    """Return the same panel for the range to compare with; None for none."""
    if not chosen.compare:
        return None
    start, end = chosen.start - chosen.offset, chosen.end - chosen.offset
    answers = query.fields_query(
        cluster, key, panel.line_fields, start, end, points, now=chosen.now
    )
    return Former(answers, chosen.offset, chosen.compare_title)


def _raw(
    cluster: Cluster, key: query.SeriesKey, panel: Panel, chosen: Range, *, user: int
) -> HttpResponse:
    """Return the samples of the cluster itself, line by line of the panel, or why there are none.

    The answer is 200 either way: a cluster that is away is no failure of this page.
    """
    lines = []
    note = ""
    try:
        for line in panel.lines:
            if line.of:
                raise InvalidInputError("this chart is worked out from two measures")
            answer = query.raw(
                cluster, key, line.field, chosen.start, chosen.end,
                now=float(chosen.now), user=user,
            )  # fmt: skip
            note = answer.note
            lines.append({"name": line.title, "role": line.role,
                          "t": answer.t, "v": answer.v, "step": answer.step})  # fmt: skip
    except (BudgetError, ClusterError, InvalidInputError) as exc:
        message = f"Not from the cluster: {str(exc).removeprefix('kind: ')}."
        return _json({"error": message, "code": exc.code})
    if not any(line["t"] for line in lines):
        return _json({"error": "The cluster's source has no data in this range.", "code": "empty"})
    return _json({"lines": lines, "note": f"Live from the cluster: {note}."})


def _json(content: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(chart_json(content), content_type="application/json")


def _nothing(
    cluster: Cluster, key: query.SeriesKey, panel: Panel, answers: Mapping[str, query.RangeAnswer]
) -> bytes:
    """Return why a chart has no number in its range, and when the last one before it was."""
    first = answers[panel.lines[0].field]
    reasons = {reason_text(gap.state, gap.reason): None for gap in first.gaps}
    last = _last_before(cluster, key, panel, first.start)
    newest = query.cluster_now(cluster)
    if newest is None:
        why = "No data yet: the cluster has not sent any."
    elif _is_before_all(cluster, first):
        why = "No data in this range: it ends before this cluster's first data."
    elif reasons:
        why = f"No data in this range: {'; '.join(reasons)}."
    elif key.kind == "node" and _is_not_ready(cluster, key.name):
        why = "Not measured: the node is not ready."
    elif last is None:
        why = "Not measured: this cluster's source does not report it."
    else:
        why = "Not measured in this range, although the cluster reported."
    return chart_json({"empty": True, "why": why, "last": last})


def _is_before_all(cluster: Cluster, answer: query.RangeAnswer) -> bool:
    segments = query.coverage(cluster, answer.start, answer.end, now=answer.end)
    return all(segment.state == "none" for segment in segments)


def _is_not_ready(cluster: Cluster, name: str) -> bool:
    node = query.node(cluster, name)
    return node is not None and node.now.ready is False


def _last_before(cluster: Cluster, key: query.SeriesKey, panel: Panel, start: int) -> int | None:
    """Return the end of the last bucket with a number in the 90 days before ``start``."""
    begin = max(0, start - LENGTHS["90d"])
    if begin >= start:
        return None
    field = panel.lines[0].field
    before = query.range_query(cluster, key, field, begin, start, now=start)
    return before.t[-1] + before.step if before.t else None


def _node_capacity(
    cluster: Cluster, key: query.SeriesKey, panel: Panel, answers: Mapping[str, query.RangeAnswer]
) -> dict[str, Any]:
    """Return the dashed line of a pod: its node's capacity, in words if that is far above."""
    if key.kind != "pod" or panel.name not in _POD_CAPACITY:
        return {}
    pod = query.pod(cluster, key.ns, key.name)
    node = query.node(cluster, pod.now.node) if pod and pod.now.node else None
    if node is None:
        return {}
    capacity = node.now.values[_POD_CAPACITY[panel.name]]
    if capacity and capacity > FAR * top_of(panel, answers):
        return {"beyond": f"its node has {by_unit(panel.unit, capacity)}"}
    return {"capacity": capacity, "capacity_title": f"capacity of {node.now.name}"}


def _rows(
    panel: Panel, answers: Mapping[str, query.RangeAnswer]
) -> Iterator[tuple[int, list[_Line | None] | None, query.Gap | None]]:
    """Yield (Unix time, values per line, the gap that has none), ascending.

    The values of a line are (mean, min, max, coverage); None if it has no data at that time.
    """
    found = columns(panel, answers)
    by_time: dict[int, list[_Line | None]] = {}
    for index, column in enumerate(found):
        for row in _values(column):
            by_time.setdefault(row[0], [None] * len(found))[index] = row[1:]
    gaps = {gap.start: gap for gap in missing(panel, answers)}
    for at in sorted({*by_time, *gaps}):
        if at in gaps:
            yield at, None, gaps[at]
        if at in by_time:
            yield at, by_time[at], None


def _values(
    column: Column,
) -> Iterator[tuple[int, float, float | None, float | None, float]]:
    return zip(column.t, column.mean, column.low, column.high, column.coverage, strict=True)


def _table(
    request: HttpRequest,
    panel: Panel,
    answers: Mapping[str, query.RangeAnswer],
    former: Former | None,
    covered: str,
) -> HttpResponse:
    first = answers[panel.lines[0].field]
    before = _means_before(panel, former) if former else {}
    rows = []
    for at, values, gap in _rows(panel, answers):
        lines: list[_Line | None] = values or []
        cells = [
            (*(by_unit(panel.unit, value) for value in line[:3]), percent(line[3]))
            if line
            else None
            for line in lines
        ]
        then = before.get(_then(at, first, panel, former), ()) if former else ()
        shown = [by_unit(panel.unit, value) for value in then] or [UNKNOWN] * len(panel.lines)
        pairs = list(zip(cells, shown, strict=False))
        note = reason_text(gap.state, gap.reason) if gap else ""
        rows.append({"at": at, "until": gap.end if gap else at, "note": note, "cells": pairs})
    context = {
        "panel": panel, "rows": rows, "step": first.step, "tier": first.tier, "former": former,
        "change": change_text(panel, answers, former) if former else "", "covered": covered,
    }  # fmt: skip
    return render(request, "parts/chart_table.html", context)


def _then(at: int, first: query.RangeAnswer, panel: Panel, former: Former) -> int:
    """Return the start of the former bucket that corresponds to the one at ``at``."""
    old = former.answers[panel.lines[0].field]
    return former_bucket(at, first.step, old.step, former.offset)


def _means_before(panel: Panel, former: Former) -> dict[int, list[float | None]]:
    """Return the former means per line by their own time."""
    found: dict[int, list[float | None]] = {}
    lines = columns(panel, former.answers)
    for index, column in enumerate(lines):
        for at, mean in zip(column.t, column.mean, strict=True):
            found.setdefault(at, [None] * len(lines))[index] = mean
    return found


def _csv(
    cluster: Cluster,
    key: query.SeriesKey,
    panel: Panel,
    answers: Mapping[str, query.RangeAnswer],
    former: Former | None,
) -> HttpResponse:
    """Return the numbers in the catalogue's units; a former range follows, at its own times."""
    parts = []
    for name, part in [("shown", answers)] + ([(former.title, former.answers)] if former else []):
        first = part[panel.lines[0].field]
        rows = ((at, values, _note(gap)) for at, values, gap in _rows(panel, part))
        parts.append(PanelPart(name, first.tier, first.step, rows))
    titles = [line.title for line in panel.lines]
    return panel_csv(cluster, key, panel.name, panel.unit, titles, parts)


def _note(gap: query.Gap | None) -> str:
    """Return the note of a gap in a file, with its end in UTC as all of a file's times."""
    if gap is None:
        return ""
    return f"no data until {minute_utc(gap.end)}: {reason_text(gap.state, gap.reason)}"
