"""What the pages of clusters, nodes and pods share: charts, coverage strip, heat strips."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from clusters.models import Cluster
from metrics import query
from metrics.charts.figure import reason_text
from metrics.charts.panels import PANELS, Panel
from metrics.series.catalog import Kind
from opscenter.pages.time_range import Range

HEAT_CELLS = 72
_SELDOM = {"pod": ("filesystem", "restarts"), "node": ("etcd",), "cluster": ("etcd",)}
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class ChartLinks:
    """A chart as the template shows it: the panel and where its content is."""

    id: str
    title: str
    panel: Panel
    json: str
    csv: str
    table: str
    raw: str = ""  # URL of the cluster's own samples; "" if not wanted


@dataclass(frozen=True, slots=True)
class CoveragePart:
    """A part of the coverage strip; ``width`` in percent of the range."""

    css: str
    width: float
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node in a list, with its CPU over the range as shares of its capacity now.

    ``pods`` are those of the cluster's newest minute, as every list counts them; None if the node
    does not report them. ``heat`` is empty while the metric store cannot be read.
    """

    node: query.SeriesNow
    heat: Sequence[float | None]
    pods: int | None


def chart_links(
    cluster: Cluster,
    kind: Kind,
    chosen: Range,
    *,
    ns: str = "",
    name: str = "",
    measured: query.SeriesNow | None = None,
) -> list[ChartLinks]:
    """Return the charts of a kind for one series.

    Args:
        cluster: the cluster, visible to the user.
        kind: kind of the series.
        chosen: the range of the page.
        ns: namespace of the series; "" for none.
        name: name of the series; "" for the cluster itself.
        measured: its newest values, to show charts of rare fields if it has them; None for none.
    """
    series = {"kind": kind} | ({"ns": ns} if ns else {}) | ({"name": name} if name else {})
    asked = f"{urlencode(series)}&{chosen.query}"

    def url(panel: Panel, form: str) -> str:
        return reverse("chart", args=[cluster.pk, panel.name, form]) + f"?{asked}"

    return [
        ChartLinks(
            f"{kind}-{panel.name}", panel.title, panel,
            url(panel, "json"), url(panel, "csv"), url(panel, "html"),
            url(panel, "raw") if chosen.raw and kind != "cluster" and _is_plain(panel) else "",
        )
        for panel in PANELS[kind]
        if panel.name not in _SELDOM.get(kind, ())
        or (measured and any(measured.values[field] is not None for field in panel.fields))
    ]  # fmt: skip


def _is_plain(panel: Panel) -> bool:
    """Return whether its lines are what a source measures, not worked out from two measures."""
    return not any(line.of for line in panel.lines)


def coverage_context(cluster: Cluster, chosen: Range) -> dict[str, Any]:
    """Return the coverage strip of a range, its share of minutes, and its gaps."""
    segments = query.coverage(cluster, chosen.start, chosen.end, now=chosen.now)
    got = sum(segment.got for segment in segments)
    expected = sum(segment.expected for segment in segments)
    return {
        "coverage": [_coverage_part(segment, chosen) for segment in segments],
        "coverage_ratio": got / expected if expected else None,
        "coverage_gaps": [
            (segment, reason_text(segment.state, segment.reason))
            for segment in segments
            if segment.state in ("gap", "lost")
        ],
    }


def node_rows(
    cluster: Cluster, nodes: query.SeriesList, pods: query.SeriesList, chosen: Range
) -> list[NodeRow]:
    """Return the nodes with their heat strips; those that are not ready first."""
    heat, nothing = _heat(cluster, chosen)
    hosted = Counter(pod.node for pod in pods.items)
    counted = bool(hosted) or counts_pods(nodes.items)
    rows = [
        NodeRow(
            node,
            _shares(heat.get(node.name, nothing), node.values["cpu_cap_mc"]),
            hosted[node.name] if counted and node.present and node.ready is not False else None,
        )
        for node in nodes.items
    ]
    rows.sort(key=lambda row: (bool(row.node.ready and row.node.present), _natural(row.node.name)))
    return rows


def counts_pods(nodes: Iterable[query.SeriesNow]) -> bool:
    """Return whether the source counts the pods of any node: 0 is not the same as not known."""
    return any(node.values["pods"] is not None for node in nodes)


def _heat(
    cluster: Cluster, chosen: Range
) -> tuple[dict[str, Sequence[float | None]], Sequence[float | None]]:
    """Return the nodes' CPU over the range by name, and the strip of a node without any.

    Empty while history cannot be read: a page with newest values is better than none.
    """
    try:
        answer = query.heat(
            cluster, "node", "cpu_mc", chosen.start, chosen.end, HEAT_CELLS, now=chosen.now
        )
    except query.MetricsUnavailableError:
        return {}, ()
    return {row.key.name: row.mean for row in answer.rows}, (None,) * len(answer.t)


def capacities(nodes: Iterable[query.SeriesNow]) -> dict[str, query.SeriesNow]:
    """Return nodes by name, as the capacities of their pods."""
    return {node.name: node for node in nodes}


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a key that puts node-9 before node-10."""
    parts = _DIGITS.split(name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], name


def _shares(values: Sequence[float | None], whole: int | None) -> list[float | None]:
    return [None if value is None or not whole else value / whole for value in values]


def _coverage_part(segment: query.Segment, chosen: Range) -> CoveragePart:
    width = (segment.end - segment.start) / max(1, chosen.seconds) * 100
    if segment.state == "done" and segment.filled:
        text = "filled afterwards"
        if segment.reason:
            text += f" ({reason_text('done', segment.reason)})"
        return CoveragePart("filled", width, segment.start, segment.end, text)
    text = {
        "done": "complete",
        "none": "before the first data",
        "pending": "not requested yet",
    }.get(segment.state) or reason_text(segment.state, segment.reason)
    return CoveragePart(segment.state, width, segment.start, segment.end, text)
