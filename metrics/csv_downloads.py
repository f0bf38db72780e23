"""Every CSV of pages and API: a line per bucket or entry, with columns that identify it.

Times of minutes are those that the cluster's own clock gave them; ``clock_ahead_s`` says by how
much it was ahead of ours when the file was made (0 for a usual difference).

No cell can be read as a formula by a spreadsheet. Answers are bounded (1,440 buckets, 500 entries),
so a file is built in memory; what is large of it is sent piece by piece, few to one user at once
(:mod:`opscenter.core.large_answers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from django.http import HttpResponse
from django.utils.text import slugify

from clusters.models import Cluster, ClusterEvent
from metrics.query import Comparison, FoundSeries, RangeAnswer, TopAnswer, seconds_ahead
from metrics.series.catalog import CATALOG
from metrics.series.rows import SeriesKey
from metrics.sources.base import RawAnswer
from opscenter.core.csv_files import CsvWriter
from opscenter.core.text import iso_utc

CONTENT_TYPE = "text/csv; charset=utf-8"

Number = float | None


def csv_response(name: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> HttpResponse:
    """Return a file to be saved as ``name``, each text escaped; None is an empty cell."""
    out = StringIO()
    writer = CsvWriter(out)
    writer.row(head)
    for row in rows:
        writer.row(row)
    file = slugify(name)[:100] or "export"
    return HttpResponse(
        out.getvalue(),
        content_type=CONTENT_TYPE,
        headers={"Content-Disposition": f'attachment; filename="{file}.csv"'},
    )


def range_csv(
    cluster: Cluster,
    key: SeriesKey,
    field: str,
    answer: RangeAnswer,
    comparison: Comparison | None = None,
) -> HttpResponse:
    """Return a range: a line per bucket, and a line per gap with the reason in ``note``.

    The earlier range of a comparison follows, with its own times and tier; ``range`` is "former".
    """
    head = ["cluster", "kind", "namespace", "name", "field", "unit", "range", "tier", "step_s",
            "time_utc", "unix_s", "clock_ahead_s", "mean", "min", "max", "samples", "expected",
            "coverage", "note"]  # fmt: skip
    who = (cluster.name, key.kind, key.ns, key.name, field, answer.unit)
    parts = [("asked", answer)] + ([("former", comparison.former)] if comparison else [])
    ahead = seconds_ahead(cluster)
    rows = ((*who, name, *row) for name, part in parts for row in _range_rows(part, ahead))
    return csv_response(f"{cluster.name} {key.ns} {key.name} {field}", head, rows)


@dataclass(frozen=True, slots=True)
class PanelPart:
    """One range of a panel.

    Attributes:
        name: the range's name, e.g. "asked" or "former".
        tier: the tier that answered.
        step: width of a row in seconds.
        rows: (Unix time, (mean, lowest, highest, coverage) of each line, why there is none),
            ascending; None for a line, or for all of them, where nothing is known.
    """

    name: str
    tier: str
    step: int
    rows: Iterable[tuple[int, Sequence[Sequence[Number] | None] | None, str]]


def panel_csv(
    cluster: Cluster,
    key: SeriesKey,
    panel: str,
    unit: str,
    titles: Sequence[str],
    parts: Iterable[PanelPart],
) -> HttpResponse:
    """Return the lines of one panel side by side, one part below the other.

    Args:
        cluster: the series' cluster.
        key: the series.
        panel: the panel's name.
        unit: the unit of all lines.
        titles: the lines' titles, in order.
        parts: the range that is shown, then an earlier one if there is one.
    """
    head = ["cluster", "namespace", "name", "range", "tier", "step_s", "time_utc", "unix_s",
            "clock_ahead_s", "note"]  # fmt: skip
    for title in titles:
        head += [f"{title} {what} ({unit})" for what in ("mean", "min", "max")]
        head.append(f"{title} coverage (0..1)")
    who = (cluster.name, key.ns, key.name)
    ahead = seconds_ahead(cluster)
    rows = (
        (*who, part.name, part.tier, part.step, iso_utc(at), at, ahead, note,
         *_cells(values, len(titles)))
        for part in parts
        for at, values, note in part.rows
    )  # fmt: skip
    return csv_response(f"{cluster.name} {key.ns} {key.name} {panel}", head, rows)


def raw_csv(
    cluster: Cluster, key: SeriesKey, field: str, unit: str, answer: RawAnswer
) -> HttpResponse:
    """Return raw values from the cluster's own source, a line each."""
    head = ["cluster", "kind", "namespace", "name", "field", "unit", "time_utc", "unix_s",
            "clock_ahead_s", "value"]  # fmt: skip
    who = (cluster.name, key.kind, key.ns, key.name, field, unit)
    ahead = seconds_ahead(cluster)
    rows = ((*who, iso_utc(int(t)), t, ahead, v) for t, v in zip(answer.t, answer.v, strict=True))
    return csv_response(f"{cluster.name} {key.ns} {key.name} {field} raw", head, rows)


def top_csv(answer: TopAnswer) -> HttpResponse:
    """Return a top list, the largest first."""
    head = ["rank", "cluster", "customer", "kind", "namespace", "name", "node", "field", "unit",
            "mean", "max", "samples", "expected", "asked", "first_seen_utc", "start_utc",
            "end_utc"]  # fmt: skip
    span = iso_utc(answer.start), iso_utc(answer.end)
    rows = (
        (
            rank, entry.cluster.name, entry.cluster.customer.name if entry.cluster.customer else "",
            answer.kind, entry.key.ns, entry.key.name, entry.node, answer.field, answer.unit,
            entry.mean, entry.max, entry.minutes, entry.expected, entry.asked,
            None if entry.first_seen is None else iso_utc(entry.first_seen), *span,
        )
        for rank, entry in enumerate(answer.entries, 1)
    )  # fmt: skip
    return csv_response(f"top {answer.kind} {answer.field}", head, rows)


def pods_csv(name: str, found: Iterable[FoundSeries]) -> HttpResponse:
    """Return pods as last measured, in the order given: every field, and when it was measured."""
    head = ["rank", "cluster", "customer", "namespace", "name", "node", "as_of_utc", "running"]
    head += [f"{field.name} ({field.unit})" for field in CATALOG["pod"]]
    rows = (
        (
            rank, hit.cluster.name, hit.cluster.customer.name if hit.cluster.customer else "",
            hit.now.ns, hit.now.name, hit.now.node, iso_utc(hit.now.as_of),
            "yes" if hit.now.present else "no",
            *(hit.now.values[field.name] for field in CATALOG["pod"]),
        )
        for rank, hit in enumerate(found, 1)
    )  # fmt: skip
    return csv_response(name, head, rows)


def history_csv(cluster: Cluster, events: Iterable[ClusterEvent]) -> HttpResponse:
    """Return states and findings, a line each: from when to when, by evidence and as known."""
    head = ["cluster", "key", "level", "text", "began_utc", "began_at_least", "began_known_utc",
            "ended_utc", "ended_known_utc", "ending"]  # fmt: skip
    rows = (
        (
            cluster.name, one.key, one.level, one.text, iso_utc(one.began_at.timestamp()),
            "yes" if one.began_at_least else "no", iso_utc(one.began_known_at.timestamp()),
            *(
                None if at is None else iso_utc(at.timestamp())
                for at in (one.ended_at, one.ended_known_at)
            ),
            one.ending,
        )
        for one in events
    )  # fmt: skip
    return csv_response(f"{cluster.name} history", head, rows)


def _range_rows(answer: RangeAnswer, ahead: int) -> Iterator[tuple[object, ...]]:
    rows: list[tuple[int, int, tuple[object, ...]]] = [
        (
            gap.start,
            0,
            (None,) * 6 + (f"no data until {iso_utc(gap.end)}: {gap.reason or gap.state}",),
        )
        for gap in answer.gaps
    ]
    columns = (answer.mean, answer.min, answer.max, answer.samples, answer.expected,
               answer.coverage)  # fmt: skip
    for t, *cells in zip(answer.t, *columns, strict=True):
        rows.append((t, 1, (*cells, "")))
    rows.sort(key=lambda row: row[:2])
    for at, _, values in rows:
        yield (answer.tier, answer.step, iso_utc(at), at, ahead, *values)


def _cells(values: Sequence[Sequence[Number] | None] | None, lines: int) -> Iterator[Number]:
    for numbers in values or [None] * lines:
        yield from (None if value is None else float(value) for value in numbers or (None,) * 4)
