"""The probe of a Prometheus: what it is, how far back it goes, what it has and lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE
from metrics.sources.base import FieldProbe, HttpClient, Probe, Resolution
from metrics.sources.prometheus.client import PrometheusApi
from metrics.sources.prometheus.queries import QUERIES, TAG, Query, layout_expr, names_expr
from metrics.sources.validation import clean_text
from opscenter.core.errors import BadResponseError

VICTORIA = "VictoriaMetrics"
PROMETHEUS = "Prometheus"
_KINDS: tuple[Kind, ...] = ("node", "filesystem", "pod")
_NODE_TOTALS = {"fs_used": "used", "fs_cap": "cap"}  # of a node, from its filesystems
# Within one line, so that a malicious page cannot make matching slow.
_BUILD = re.compile(r'^prometheus_build_info\{[^}\n]*\bversion="([^"\n]{1,40})"', re.MULTILINE)
_VICTORIA_BUILD = re.compile(
    r'^vm_app_version\{[^}\n]*\bshort_version="v?([^"\n]{0,40})"', re.MULTILINE
)
_VICTORIA_LONG = re.compile(r'^vm_app_version\{[^}\n]*?\bversion="([^"\n]{1,200})"', re.MULTILINE)
_VICTORIA_REACH = re.compile(
    r'^flag\{name="retentionPeriod", ?value="([^"\n]{1,20})"', re.MULTILINE
)
_NUMBERED = re.compile(r"\d+\.\d+\.\d+")
_PART = re.compile(r"(\d{1,9})(ms|[smhdwy])")
_MONTHS = re.compile(r"\d{1,9}")
_SECONDS = {
    "ms": 0, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000,
}  # fmt: skip
_MONTH = 31 * 86_400  # VictoriaMetrics' unit where none is given


async def probe_server(
    client: HttpClient, api: PrometheusApi, answer: SourceAnswer, *, clock: float
) -> Probe:
    """Return what a server has, judged by the newest complete minute.

    Args:
        client: the client that reaches the server.
        api: the server's query API.
        answer: that minute, read exactly as pulls do.
        clock: the server's time in Unix seconds.

    Raises:
        ClusterError: it does not answer, refuses, or is not a Prometheus.
    """
    end = answer.start + MINUTE
    oldest = await api.oldest(clock)
    newest = answer.newest_end or await api.newest()
    fields = await _fields(api, answer, end)
    layout = await api.vector(layout_expr(), end)
    about = await _optional(client, "/metrics")
    product, version = await _product(client, about)
    reach = await _reach(client, about, product)
    return Probe(
        product=product,
        version=version,
        oldest=oldest,
        newest=newest,
        series={kind: sum(1 for i in answer.infos if i.key.kind == kind) for kind in _KINDS},
        fields=fields,
        resolutions=(Resolution(MINUTE, reach, "1m"),),
        notes=[*_layout_notes(layout), *answer.notes],
    )


async def _fields(api: PrometheusApi, answer: SourceAnswer, end: int) -> list[FieldProbe]:
    """Return every field of the catalogue; for missing ones, the metric that is missing."""
    counts: dict[tuple[Kind, str], int] = {}
    for row in answer.rows:
        for name, cell in zip(FIELD_NAMES[row.key.kind], row.cells, strict=True):
            if cell is not None:
                counts[row.key.kind, name] = counts.get((row.key.kind, name), 0) + 1
    wanted = [(kind, name) for kind in _KINDS for name in FIELD_NAMES[kind]]
    lacking = {field: _queries_for(*field) for field in wanted if field not in counts}
    names = {metric for ways in lacking.values() for query in ways for metric in query.metrics}
    there: set[str] = set()
    if names:
        found = await api.vector(names_expr(names), end)
        there = {labels.get("__name__", "") for labels, _ in found}
    return [
        FieldProbe(
            kind, name, counts.get((kind, name), 0),
            _reason(lacking[kind, name], there) if (kind, name) in lacking else "",
        )
        for kind, name in wanted
    ]  # fmt: skip


def _queries_for(kind: Kind, name: str) -> list[Query]:
    """Return all queries that could give a field, the best first."""
    from_disks = _NODE_TOTALS.get(name, name)
    return [
        query
        for query in QUERIES
        if (query.kind, query.field) == (kind, name)
        or (kind == "node" and (query.kind, query.field) == ("filesystem", from_disks))
    ]


def _reason(queries: Sequence[Query], there: set[str]) -> str:
    """Return why none of the queries gives a value, and what would."""
    for query in queries:
        present = [metric for metric in query.metrics if metric in there]
        if present:
            return f"{present[0]} is there, but not with what is needed. {query.hint}".strip()
    missing = []
    for query in queries:
        text = f"{query.exporter} is not scraped: no {' or '.join(query.metrics)}"
        if text not in missing:
            missing.append(text)
    return "; ".join(missing)


def _layout_notes(found: Iterable[tuple[Mapping[str, str], float]]) -> list[str]:
    """Return notes about labels and replicas."""
    counts = {labels.get(TAG, ""): int(value) for labels, value in found if value == value}  # noqa: PLR0124 - no NaN
    notes = []
    if counts.get("pod"):
        notes.append("containers are labelled pod and container (Kubernetes 1.16 and later)")
    if counts.get("pod_name"):
        notes.append("containers are labelled pod_name and container_name (before Kubernetes 1.16)")
    if counts.get("ksm1"):
        notes.append("kube-state-metrics 1.x")
    notes += [
        f"{counts[label]} replicas by the label {label}: their series count once"
        for label in ("prometheus_replica", "replica")
        if counts.get(label, 0) > 1
    ]
    if not counts.get("up"):
        notes.append("there is no up: minutes in which nothing was scraped cannot be recognised")
    return notes


async def _product(client: HttpClient, about: str) -> tuple[str, str]:
    """Return the product and its version, "" if it does not say."""
    product = product_of(about)
    if product is not None:
        return product
    build = await _optional_json(client, "/api/v1/status/buildinfo")
    version = build.get("version")
    return PROMETHEUS, clean_text(version[:40], "version", 40) if type(version) is str else ""


def product_of(page: str) -> tuple[str, str] | None:
    """Return product and version from a server's own metrics; None if they do not show them."""
    short, long = _VICTORIA_BUILD.search(page), _VICTORIA_LONG.search(page)
    if short or long:
        version = _NUMBERED.search(f"{short[1] if short else ''} {long[1] if long else ''}")
        return VICTORIA, version[0] if version else ""
    own = _BUILD.search(page)
    return (PROMETHEUS, clean_text(own[1], "version", 40)) if own else None


async def _reach(client: HttpClient, about: str, product: str) -> int | None:
    """Return how long the server keeps samples, in seconds; None if it does not say."""
    if product == VICTORIA:
        flag = _VICTORIA_REACH.search(about)
        return duration_seconds(flag[1]) if flag else None
    runtime = await _optional_json(client, "/api/v1/status/runtimeinfo")
    retention = runtime.get("storageRetention")
    if type(retention) is str:
        # "15d", "15d or 10GiB", or "10GiB" alone.
        return duration_seconds(retention.partition(" or ")[0])
    flags = await _optional_json(client, "/api/v1/status/flags")
    for name in ("storage.tsdb.retention.time", "storage.tsdb.retention"):
        retention = flags.get(name)
        if type(retention) is str and (seconds := duration_seconds(retention)):
            return seconds
    return None


def duration_seconds(text: str) -> int | None:
    """Return a duration as Prometheus and VictoriaMetrics write it, e.g. ``1y2w``, in seconds.

    Returns:
        None for a text that is not a duration, and for ``0s``, which means "not set".
    """
    if _MONTHS.fullmatch(text):
        return int(text) * _MONTH or None
    if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        return None
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text)) or None


async def _optional(client: HttpClient, path: str) -> str:
    """Return a page that not every server or proxy offers; "" if it is missing."""
    try:
        return await client.get_text(path)
    except BadResponseError:
        return ""  # behind a proxy there is often only the query API


async def _optional_json(client: HttpClient, path: str) -> dict[str, Any]:
    try:
        raw = await client.get_json(path)
    except BadResponseError:
        return {}  # the server is too old, or a proxy blocks it
    data = raw.get("data") if type(raw) is dict else None
    return data if type(data) is dict else {}
