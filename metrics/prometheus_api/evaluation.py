"""Evaluates a query: reads the series of its selectors and aggregates them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from uuid import UUID

from clusters.models import Cluster
from metrics.prometheus_api.deadline import Deadline
from metrics.prometheus_api.errors import TooMuchError
from metrics.prometheus_api.inventory import Found, check_number, find
from metrics.prometheus_api.metric_names import Metric
from metrics.prometheus_api.promql import Aggregate, Expression, Number, Selector
from metrics.prometheus_api.sampling import Grid, choose_tier, place
from metrics.query.tiers import WIDEST
from metrics.query.validation import finest_stored
from metrics.retention.in_force import retentions_of
from metrics.series.catalog import TIERS, Kind
from metrics.series.rows import Columns, SeriesKey
from metrics.stores import get_store

MAX_SAMPLES = 4_000_000
FEW_SERIES = 8
"""Up to this many series are read one by one; more of one cluster together."""

_CHECK_EVERY = 256
Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One series of an answer: labels, and a value per time, None where there is none."""

    labels: dict[str, str]
    values: Values


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The context of a query: the clusters it may read, the times, the deadline."""

    clusters: Sequence[Cluster]
    grid: Grid
    now: int
    deadline: Deadline

    def rows(self, expression: Expression) -> list[Row]:
        """Return the series of an expression, without those that have no value.

        Raises:
            QueryError: it reads too much, or takes too long.
        """
        if isinstance(expression, Number):
            return [Row({}, [expression.value] * self.grid.count)]
        if isinstance(expression, Aggregate):
            return self._aggregate(expression)
        return self._select(expression)

    def _select(self, selector: Selector) -> list[Row]:
        grid = self.grid.moved(selector.offset_ms)
        reader = _Reader(self.clusters, grid, self.now, self.deadline)
        since, _ = grid.reach(TIERS["1h"])
        for found in find(self.clusters, selector.matches, since=since, deadline=self.deadline):
            reader.read(found)
        return reader.rows

    def _aggregate(self, expression: Aggregate) -> list[Row]:
        groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
        for row in self.rows(expression.of):
            groups.setdefault(_group(row.labels, expression), []).append(row)
        rows: list[Row] = []
        for labels, members in groups.items():
            self.deadline.check()
            if expression.count is not None:
                rows += _top(members, expression.count, self.grid.count, expression.operator)
            else:
                values = _combined(expression.operator, members, self.grid.count)
                rows.append(Row(dict(labels), values))
        return rows


class _Reader:
    """Reads series onto a grid."""

    def __init__(
        self, clusters: Iterable[Cluster], grid: Grid, now: int, deadline: Deadline
    ) -> None:
        self.rows: list[Row] = []
        self._grid = grid
        self._now = now
        self._deadline = deadline
        self._retentions = retentions_of(clusters, now)
        self._finest: dict[UUID, int] = {}
        self._series = self._samples = 0

    def read(self, found: Found) -> None:
        """Read the series found in one cluster."""
        series = len(found.things) * len(found.metrics)
        self._series += series
        check_number(self._series)
        tier = self._tier(found.cluster, found.kind)
        width = TIERS[tier]
        start, end = self._grid.reach(width)
        samples = max(self._grid.count, (end - start) // width)  # steps may be finer than buckets
        self._samples += series * samples
        if self._samples > MAX_SAMPLES:
            msg = (
                f"the query would give or read more than {MAX_SAMPLES:,} samples; narrow the"
                " selector or the range, or widen the step"
            )
            raise TooMuchError(msg)
        read: dict[str, Callable[[SeriesKey], Columns | None]] = {}
        for metric in found.metrics:
            if metric.field not in read:
                read[metric.field] = _columns(found, metric.field, tier, start, end)
            self._place(found, metric, read[metric.field], width)

    def _place(
        self, found: Found, metric: Metric, columns_of: Callable[[SeriesKey], Columns | None],
        width: int,
    ) -> None:  # fmt: skip
        for index, thing in enumerate(found.things):
            if index % _CHECK_EVERY == 0:
                self._deadline.check()
            columns = columns_of(thing.key)
            if columns is None:
                continue
            values = place(columns, width, self._grid, metric.statistic)
            if any(value is not None for value in values):
                self.rows.append(Row({"__name__": metric.name, **thing.labels}, values))

    def _tier(self, cluster: Cluster, kind: Kind) -> str:
        reach = self._retentions[cluster.pk].reach(kind)
        tier = choose_tier(self._grid, now=self._now, reach=reach)
        if tier == WIDEST:
            return tier
        if cluster.pk not in self._finest:
            self._finest[cluster.pk] = finest_stored(cluster.pk, *self._grid.reach(TIERS[tier]))
        finest = self._finest[cluster.pk]
        return choose_tier(self._grid, now=self._now, reach=reach, finest=finest)


def _columns(
    found: Found, field: str, tier: str, start: int, end: int
) -> Callable[[SeriesKey], Columns | None]:
    """Return a function that returns a series' columns; many series are read together."""
    store, cluster, kind = get_store(), found.cluster.pk, found.kind
    if len(found.things) <= FEW_SERIES:
        return lambda key: store.read(cluster, key, field, tier, start, end)
    return store.read_many(cluster, kind, field, tier, start, end).get


def _group(labels: dict[str, str], expression: Aggregate) -> tuple[tuple[str, str], ...]:
    """Return the labels of the group that a series belongs to."""
    if expression.without:
        dropped = {"__name__", *expression.labels}
        return tuple((k, v) for k, v in sorted(labels.items()) if k not in dropped)
    return tuple((k, labels[k]) for k in sorted(set(expression.labels)) if labels.get(k))


def _combined(operator: str, members: Iterable[Row], count: int) -> Values:
    columns: list[list[float]] = [[] for _ in range(count)]
    for row in members:
        for column, value in zip(columns, row.values, strict=True):
            if value is not None:
                column.append(value)
    combining: dict[str, Callable[[list[float]], float]] = {
        "sum": sum,
        "min": min,
        "max": max,
        "avg": lambda values: sum(values) / len(values),
        "count": len,
        "group": lambda _: 1.0,
    }
    combine = combining[operator]
    return [combine(column) if column else None for column in columns]


def _top(members: list[Row], wanted: int, count: int, operator: str) -> list[Row]:
    """Return the largest (or smallest) series of each time, with values only at those times."""
    sign = 1 if operator == "topk" else -1
    chosen: dict[int, Values] = {}
    for at in range(count):
        present = [
            (sign * v, -i) for i, row in enumerate(members) if (v := row.values[at]) is not None
        ]
        for value, index in nlargest(wanted, present):
            chosen.setdefault(-index, [None] * count)[at] = sign * value
    return [Row(members[index].labels, values) for index, values in chosen.items()]
