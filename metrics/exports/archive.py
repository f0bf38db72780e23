"""Writing an export: every cluster's rows by kind and tier, series and ledger, and a manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import orjson

from clusters.history import events_of
from clusters.models import Cluster
from metrics.exports import formats
from metrics.exports.formats import Format, Table
from metrics.exports.targets import Target
from metrics.retention.in_force import retention_of
from metrics.retention.rules import cells
from metrics.series.catalog import CATALOG, TIERS, Kind
from metrics.series.windows import STREAM, utc_datetime
from metrics.stores.copier import MetricCopier, StoredSeries
from metrics.stores.estimate import amount
from opscenter.core.text import iso_utc

README = """\
Data that Ops Center stored of {what}, from {start} to {end}, exported {now}.

Each cluster has a directory. KIND_TIER.{form} holds one row for each series and bucket: kind is
cluster, node, filesystem or pod; the tier 1m, 10m or 1h is the width of the buckets; time is the
start of the bucket, UTC. minutes counts the minutes in the row. For each field, _minutes counts the
measured minutes, _sum adds up their means (mean = sum / minutes), _min and _max are the lowest and
highest sample. Empty means not measured, never 0. Fields and units are in export.json.
For a filesystem, namespace is its node and name its mount point.

series.{form} lists the series with their newest node and attributes, windows.{form} the gap ledger:
which times are complete, and why data is missing. history.{form} has a row for each time that the
cluster was in one state, and that each finding had one level: began and ended are by evidence,
began_known and ended_known are when Ops Center recorded it.
"""


@dataclass(frozen=True, slots=True)
class Span:
    """The content of an export: clusters, format, and ``[start, end)`` in Unix seconds."""

    what: str
    clusters: Sequence[Cluster]
    form: Format
    start: int
    end: int


@dataclass(slots=True)
class Progress:
    """The progress of an export."""

    expected_rows: int = 0
    """An estimate."""
    rows: int = 0
    step: str = ""
    """The file that is being written."""
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Return the part that is done, 0..1; an estimate."""
        return min(1.0, self.rows / max(1, self.expected_rows, self.rows))


Report = Callable[[Progress], None]


def write_export(
    store: MetricCopier, span: Span, target: Target, *, now: int, report: Report
) -> Progress:
    """Write an export to a target and close it.

    Some ten thousand rows are in memory at a time, for any length of the range.

    Args:
        store: the store to read.
        span: the content to export.
        target: the target to write to.
        now: current Unix time in seconds, for the manifest.
        report: called before each file and after each block; may raise to stop.

    Raises:
        StoreError: the store refuses.
        OSError: the target cannot be written.
    """
    known = {cluster.pk: store.series(cluster.pk) for cluster in span.clusters}
    progress = Progress()
    for cluster in span.clusters:
        retention = retention_of(cluster, now)
        for kind, tier in cells():
            start = max(span.start, now - retention.reach(kind)[tier])
            rows, _ = amount(known[cluster.pk], kind, tier, start, span.end)
            progress.expected_rows += rows
    for cluster in span.clusters:
        _write_cluster(store, span, target, cluster, known[cluster.pk], progress, report)
    with target.file("export.json") as stream:
        stream.write(orjson.dumps(_manifest(span, progress, now), option=orjson.OPT_INDENT_2))
    with target.file("README.txt") as stream:
        text = README.format(
            what=span.what,
            start=iso_utc(span.start),
            end=iso_utc(span.end),
            now=iso_utc(now),
            form=span.form,
        )
        stream.write(text.encode())
    target.close()
    return progress


def _write_cluster(
    store: MetricCopier,
    span: Span,
    target: Target,
    cluster: Cluster,
    series: list[StoredSeries],
    progress: Progress,
    report: Report,
) -> None:
    for kind, tier in cells():
        _write_rows(store, span, target, (cluster, kind, tier), progress, report)
    windows = store.windows(cluster.pk, STREAM, span.start, span.end)
    for name, columns, values in (
        ("series", formats.SERIES_COLUMNS, formats.series_values(series)),
        ("windows", formats.WINDOW_COLUMNS, formats.window_values(windows)),
    ):
        path = f"{cluster.name}/{name}.{span.form}"
        progress.step = path
        report(progress)
        with target.file(path) as stream:
            table = formats.open_table(span.form, stream, columns)
            if values:
                table.write(values)
            table.close()
        progress.files.append({"name": path, "rows": len(values[0]) if values else 0})
    _write_history(span, target, cluster, progress, report)


def _write_history(
    span: Span, target: Target, cluster: Cluster, progress: Progress, report: Report
) -> None:
    """Write the history of the cluster's states and findings, oldest first."""
    path = f"{cluster.name}/history.{span.form}"
    progress.step, rows = path, 0
    report(progress)
    found = events_of(cluster, utc_datetime(span.start), utc_datetime(span.end)).reverse()
    with target.file(path) as stream:
        table = formats.open_table(span.form, stream, formats.HISTORY_COLUMNS)
        for block in formats.blocks(found.iterator(chunk_size=formats.BLOCK_ROWS)):
            table.write(formats.history_values(block))
            rows += len(block)
            report(progress)
        table.close()
    progress.files.append({"name": path, "rows": rows})


def _write_rows(
    store: MetricCopier,
    span: Span,
    target: Target,
    part: tuple[Cluster, Kind, str],
    progress: Progress,
    report: Report,
) -> None:
    """Write one tier of one kind; no file if there are no rows."""
    cluster, kind, tier = part
    path = f"{cluster.name}/{kind}_{tier}.{span.form}"
    progress.step, rows = path, 0
    report(progress)
    with ExitStack() as stack:
        table: Table | None = None
        for block in formats.blocks(store.scan(cluster.pk, kind, tier, span.start, span.end)):
            if table is None:
                stream = stack.enter_context(target.file(path))
                table = formats.open_table(span.form, stream, formats.row_columns(kind))
            table.write(formats.row_values(kind, block))
            rows += len(block)
            progress.rows += len(block)
            report(progress)
        if table is not None:
            table.close()
            progress.files.append({"name": path, "rows": rows})


def _manifest(span: Span, progress: Progress, now: int) -> dict[str, Any]:
    return {
        "what": span.what,
        "start": iso_utc(span.start),
        "end": iso_utc(span.end),
        "exported_at": iso_utc(now),
        "format": span.form,
        "clusters": [{"id": str(one.pk), "name": one.name} for one in span.clusters],
        "tiers_seconds": dict(TIERS),
        "fields": {
            kind: {field.name: {"unit": field.unit, "title": field.title} for field in fields}
            for kind, fields in CATALOG.items()
        },
        "rows": progress.rows,
        "files": progress.files,
    }
