"""Fields over time, heat strips, and the ledger of clusters.

Nothing here queries a cluster: stored data stays readable while the cluster is unreachable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from clusters.models import Cluster
from metrics.query import coverage_strip as strip
from metrics.query.answers import (
    Gap,
    HeatAnswer,
    HeatRow,
    RangeAnswer,
    Segment,
)
from metrics.query.comparison import Comparison, compared
from metrics.query.tiers import MAX_POINTS, WIDEST, Selection, expected_minutes, select
from metrics.query.validation import (
    check_field,
    check_range,
    elapsed,
    finest_stored,
    reads_store,
)
from metrics.retention.in_force import retention_of
from metrics.series.catalog import Kind, Unit
from metrics.series.rollups import rebucket
from metrics.series.rows import Columns, SeriesKey
from metrics.series.windows import STREAM, Position, Window, floor_minute
from metrics.stores import get_store
from metrics.stores.window_runs import is_plain

CLUSTER = SeriesKey("cluster", "", "")


def range_query(
    cluster: Cluster,
    key: SeriesKey,
    field: str,
    start: int,
    end: int,
    points: int = MAX_POINTS,
    *,
    now: int,
) -> RangeAnswer:
    """Return one field of one series over time; see :func:`fields_query`."""
    return fields_query(cluster, key, [field], start, end, points, now=now)[field]


@reads_store
def fields_query(
    cluster: Cluster,
    key: SeriesKey,
    fields: Sequence[str],
    start: int,
    end: int,
    points: int = MAX_POINTS,
    *,
    now: int,
) -> dict[str, RangeAnswer]:
    """Return fields of one series over time, each in at most ``points`` buckets.

    Uses the finest tier that still has the range and fits, so a narrower range is finer. A series
    that does not exist gives empty answers. Three database queries for the retention.

    Args:
        cluster: a cluster that the user may see.
        key: the series.
        fields: names of fields of :data:`metrics.series.catalog.CATALOG`.
        start: start of the range in Unix seconds, inclusive.
        end: end of the range in Unix seconds, exclusive; may be in the future.
        points: maximum number of buckets; clamped to 2..1,440.
        now: current Unix time in seconds.

    Raises:
        InvalidInputError: an empty or absurd range, or an unknown field.
        MetricsUnavailableError: the store cannot be read.
    """
    units = {field: check_field(key.kind, field) for field in fields}
    check_range(start, end)
    store = get_store()
    chosen = _chosen(cluster, key.kind, start, end, points, now)
    read = store.read_fields(cluster.id, key, fields, chosen.tier, chosen.start, chosen.end)
    life = _life(cluster, key, now)
    windows = store.window_runs(cluster.id, STREAM, chosen.start, chosen.end)
    gaps = tuple(_gaps(cluster, windows, chosen.start, min(chosen.end, now), life))
    segments = _segments(cluster, windows, chosen.start, min(chosen.end, now), life)
    damaged = {span for columns in read.values() for span in columns.damaged}
    if damaged:
        until = chosen.end if life.last is None else life.last
        gaps = strip.with_damage(gaps, sorted(damaged), life.born or 0, until)
    return {
        field: _range_answer(rebucket(read[field], chosen.step), chosen, unit, gaps, life, segments)
        for field, unit in units.items()
    }


def compare(
    cluster: Cluster,
    key: SeriesKey,
    field: str,
    answer: RangeAnswer,
    offset: int,
    points: int = MAX_POINTS,
    *,
    now: int,
) -> Comparison:
    """Compare an answer of :func:`range_query` with the same range ``offset`` seconds earlier.

    The former range may come from a wider tier, where the finer one is no longer kept.

    Raises:
        InvalidInputError: the former range is before 1970.
        MetricsUnavailableError: the store cannot be read.
    """
    start, end = answer.start - offset, answer.end - offset
    former = range_query(cluster, key, field, start, end, points, now=now)
    return compared(answer, former, offset)


@reads_store
def heat(
    cluster: Cluster,
    kind: Kind,
    field: str,
    start: int,
    end: int,
    cells: int,
    *,
    now: int,
) -> HeatAnswer:
    """Return one field of every series of a kind on a grid of at most ``cells`` columns.

    Raises:
        InvalidInputError: an empty or absurd range, or an unknown field.
        MetricsUnavailableError: the store cannot be read.
    """
    unit = check_field(kind, field)
    check_range(start, end)
    chosen = _chosen(cluster, kind, start, end, cells, now)
    grid = tuple(range(chosen.start, chosen.end, chosen.step))
    found = get_store().read_many(cluster.id, kind, field, chosen.tier, chosen.start, chosen.end)
    rows = [_heat_row(key, rebucket(columns, chosen.step), grid) for key, columns in found.items()]
    rows.sort(key=lambda row: (row.key.ns, row.key.name))
    return HeatAnswer(grid, chosen.step, chosen.tier, unit, chosen.start, chosen.end, tuple(rows))


@reads_store
def windows(cluster: Cluster, start: int, end: int, states: Sequence[str] = ()) -> list[Window]:
    """Return the ledger's windows that overlap the range, ascending; of ``states`` if given."""
    return get_store().windows(cluster.id, STREAM, start, end, states=states)


@reads_store
def odd_windows(cluster: Cluster, start: int, end: int) -> list[Window]:
    """Return the ledger's windows that overlap the range, ascending, except those in time."""
    found = get_store().window_runs(cluster.id, STREAM, start, end)
    return [window for window in found if not is_plain(window)]


@reads_store
def position(cluster: Cluster) -> Position:
    """Return the ends of the cluster's contiguous data and of its newest data."""
    return get_store().position(cluster.id, STREAM)


@reads_store
def coverage(cluster: Cluster, start: int, end: int, *, now: int) -> tuple[Segment, ...]:
    """Return the state of every moment of the range, for the coverage strip.

    The segments are contiguous from ``start`` to ``end`` or to now. A minute of which the range has
    the end is counted as a whole, as in :func:`fields_query`.
    """
    first = floor_minute(start)
    windows = get_store().window_runs(cluster.id, STREAM, first, end)
    found = _segments(cluster, windows, first, min(end, now), _life(cluster, CLUSTER, now))
    return (replace(found[0], start=start), *found[1:]) if found else found


@reads_store
def minutes_due(cluster: Cluster, key: SeriesKey, start: int, end: int, *, now: int) -> int:
    """Return how many minutes of a range a series could have, as :func:`coverage` counts them."""
    life = _life(cluster, key, now)
    return _due(life, coverage(cluster, start, end, now=now))


def _chosen(cluster: Cluster, kind: Kind, start: int, end: int, points: int, now: int) -> Selection:
    """Return the finest buckets that retention keeps and that are stored for the whole range."""
    reach = retention_of(cluster, now).reach(kind)
    chosen = select(start, end, points=points, now=now, reach=reach)
    if chosen.tier == WIDEST:
        return chosen
    finest = finest_stored(cluster.pk, chosen.start, chosen.end)
    return select(start, end, points=points, now=now, reach=reach, finest=finest)


class _Life(NamedTuple):
    """The span in which a series can have data, in Unix seconds."""

    key: SeriesKey
    head: int | None  # end of the cluster's newest data
    until: int  # end of the data that can exist
    born: int | None  # first minute of the series; None if it was never seen
    last: int | None  # end of its newest minute

    @property
    def gone(self) -> int | None:
        """Return when the series ended; None if it still exists."""
        return self.last if self.last and self.head and self.last < self.head else None


def _life(cluster: Cluster, key: SeriesKey, now: int) -> _Life:
    store = get_store()
    head = store.position(cluster.id, STREAM).head
    newest = store.last_one(cluster.id, key)
    last = None if newest is None else newest.ts + 60
    return _Life(key, head, elapsed(head, now), store.first_seen(cluster.id, key), last)


def _range_answer(
    columns: Columns,
    chosen: Selection,
    unit: Unit,
    gaps: tuple[Gap, ...],
    life: _Life,
    segments: tuple[Segment, ...],
) -> RangeAnswer:
    born = strip.first_due(segments, life.born)
    until = life.until if life.gone is None else min(life.until, life.gone)
    expected = expected_minutes(columns, chosen.step, born=born, until=until)
    return RangeAnswer(
        t=columns.t,
        mean=[total / n for total, n in zip(columns.total, columns.n, strict=True)],
        min=columns.low,
        max=columns.high,
        coverage=[min(1.0, n / m) for n, m in zip(columns.n, expected, strict=True)],
        samples=columns.n,
        expected=expected,
        due=max(_due(life, segments), sum(columns.n)),
        tier=chosen.tier,
        step=chosen.step,
        unit=unit,
        start=chosen.start,
        end=chosen.end,
        gaps=gaps,
        as_of=life.head,
    )


def _due(life: _Life, segments: Sequence[Segment]) -> int:
    """Return the minutes due of a series; of the cluster itself, all that its ledger expects."""
    if life.key == CLUSTER:
        return sum(segment.expected for segment in segments)
    return strip.minutes_due(segments, born=life.born, gone=life.gone)


def _gaps(
    cluster: Cluster, windows: Iterable[Window], start: int, end: int, life: _Life
) -> list[Gap]:
    open_or_lost = [window for window in windows if window.state != "done"]
    return strip.gaps(
        open_or_lost, start, end, head=life.head, until=life.until, stored=_stored(cluster)
    )


def _segments(
    cluster: Cluster, windows: Sequence[Window], start: int, end: int, life: _Life
) -> tuple[Segment, ...]:
    return strip.segments(
        windows, start, end, head=life.head, until=life.until, stored=_stored(cluster)
    )


def _stored(cluster: Cluster) -> strip.Stored:
    """Return a function that returns the stored minutes of a range."""

    def stored(start: int, end: int) -> set[int]:
        return set(get_store().read(cluster.id, CLUSTER, "nodes_total", "1m", start, end).t)

    return stored


def _heat_row(key: SeriesKey, columns: Columns, grid: tuple[int, ...]) -> HeatRow:
    entries = zip(columns.t, columns.total, columns.n, columns.high, strict=True)
    cells = {t: (total / n, high) for t, total, n, high in entries}
    nothing: tuple[None, None] = (None, None)
    row = [cells.get(t, nothing) for t in grid]
    return HeatRow(key, tuple(mean for mean, _ in row), tuple(high for _, high in row))
