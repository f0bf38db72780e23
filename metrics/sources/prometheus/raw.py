"""Raw values from Prometheus, at its own scrape interval."""

from __future__ import annotations

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rollups import bucket_start
from metrics.series.rows import SeriesKey
from metrics.series.windows import MINUTE
from metrics.sources.base import HttpClient, RawAnswer
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.prometheus.batches import MAX_SERIES
from metrics.sources.prometheus.client import PrometheusApi
from metrics.sources.prometheus.queries import QUERIES, TAG
from metrics.sources.prometheus.responses import read_matrix
from metrics.sources.prometheus.rows import Slice
from opscenter.core.errors import InvalidInputError

INTERVALS = (5, 10, 15, 20, 30, 60)
"""The possible steps in seconds; the one nearest to the scrape interval is requested."""

_SCRAPES_SECONDS = 600
_SCRAPES_EXPR = f"max(count_over_time(up[{_SCRAPES_SECONDS}s]))"
_OF_FILESYSTEMS = {
    "fs_used": "used",
    "fs_cap": "cap",
    "inodes_total": "inodes_total",
    "inodes_free": "inodes_free",
}


async def prometheus_raw(
    client: HttpClient, key: SeriesKey, field: str, start: int, end: int
) -> RawAnswer:
    """Return one field of one series at the scrape interval; see :class:`.base.RawSource`.

    As in stored minutes, rates are over the previous two minutes.
    """
    numbers = _numbers(key, field)
    if not numbers:
        msg = f"field: Prometheus is not asked for {field} of a {key.kind}"
        raise InvalidInputError(msg)
    with ParseSlot("live") as slot:
        api = PrometheusApi(client, slot)
        facts = await api.facts(start, end)
        step = await _interval(api)
        times = range(bucket_start(start, step), end, step)
        moments = range(times[0] + MINUTE, times[-1] + MINUTE + 1, step)
        expr = " or ".join(_tagged(number, key) for number in numbers)
        raw = await api.ranged(expr, moments[0], moments[-1], step)
        piece = Slice(times, facts)
        most = MAX_SERIES * len(numbers) + 1
        piece.add(read_matrix(raw, moments, most=most), frozenset(numbers))
        rows, _ = piece.finish()
    at = FIELD_NAMES[key.kind].index(field)
    found = [(row.ts, row.cells[at]) for row in rows if row.key == key]
    known = [(ts, cell.total / cell.n) for ts, cell in found if cell is not None]
    return RawAnswer(
        [ts for ts, _ in known], [value for _, value in known], step,
        "as Prometheus reports at each scrape; rates are over the two minutes before",
    )  # fmt: skip


def _numbers(key: SeriesKey, field: str) -> list[int]:
    """Return the numbers of a field's queries; node totals include those of filesystems."""
    wanted = {(key.kind, field)}
    if key.kind == "node" and field in _OF_FILESYSTEMS:
        wanted.add(("filesystem", _OF_FILESYSTEMS[field]))
    return [number for number, query in enumerate(QUERIES) if (query.kind, query.field) in wanted]


async def _interval(api: PrometheusApi) -> int:
    """Return the shortest scrape interval of any target."""
    found = await api.vector(_SCRAPES_EXPR)
    count = max((value for _, value in found if value > 0), default=_SCRAPES_SECONDS / MINUTE)
    return min(INTERVALS, key=lambda step: abs(step - _SCRAPES_SECONDS / count))


def _tagged(number: int, key: SeriesKey) -> str:
    expr = QUERIES[number].expr
    if key.kind == "pod":
        expr = _of_pod(expr, key)
    return f'label_replace({expr},"{TAG}","{number}","","")'


def _of_pod(expr: str, key: SeriesKey) -> str:
    """Return the part of an expression about one pod, whichever labels name it."""
    parts = []
    for prefix in ("", "exported_"):
        wanted = "vector(1)"
        for label, name in (("namespace", key.ns), ("pod", key.name)):
            value = _quoted(name.replace("$", "$$"))  # label_replace expands $1
            wanted = f'label_replace({wanted},"{prefix}{label}",{value},"","")'
        parts.append(f"(({expr}) and on({prefix}namespace,{prefix}pod) {wanted})")
    return f"({' or '.join(parts)})"


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'
