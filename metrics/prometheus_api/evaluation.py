"""Evaluates a query: reads the series of its selectors and aggregates them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest

from clusters.models import Cluster
from metrics.prometheus_api.deadline import Deadline
from metrics.prometheus_api.inventory import find
from metrics.prometheus_api.promql import Aggregate, Expression, Number, Selector
from metrics.prometheus_api.sampling import Grid
from metrics.prometheus_api.series_reader import Row, SeriesReader, Values
from metrics.series.catalog import TIERS


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The context of a query: the clusters it may read, the times, the deadline."""

    clusters: Sequence[Cluster]
    grid: Grid
    now: int
    deadline: Deadline

    def parts(self, expression: Expression) -> Iterator[tuple[int, list[Row]]]:
        """Yield the series of an expression, a part of the times after the other.

        Each with the index of its first time, ascending; a series without a value in a part is left
        out of it. Nothing of a part is kept when the next one is read.

        Raises:
            QueryError: it reads too much, or takes too long.
        """
        if isinstance(expression, Number):
            yield 0, [Row({}, [expression.value] * self.grid.count)]
            return
        selector = _selector(expression)
        grid = self.grid.moved(selector.offset_ms)
        reader = SeriesReader(self.clusters, grid, self.now, self.deadline)
        since, _ = grid.reach(TIERS["1h"])
        for found in find(self.clusters, selector.matches, since=since, deadline=self.deadline):
            reader.add(found)
        for first, count, rows in reader.parts():
            yield first, self._evaluated(expression, rows, count)

    def _evaluated(
        self, expression: Selector | Aggregate, rows: list[Row], count: int
    ) -> list[Row]:
        """Return the series of an expression, from those of its selector at ``count`` times."""
        if isinstance(expression, Selector):
            return rows
        groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
        for row in self._evaluated(expression.of, rows, count):
            groups.setdefault(_group(row.labels, expression), []).append(row)
        made: list[Row] = []
        for labels, members in groups.items():
            self.deadline.check()
            if expression.count is not None:
                made += _top(members, expression.count, count, expression.operator)
            else:
                values = _combined(expression.operator, members, count)
                made.append(Row(dict(labels), values))
        return made


def _selector(expression: Selector | Aggregate) -> Selector:
    """Return the selector of an expression; each has exactly one."""
    while isinstance(expression, Aggregate):
        expression = expression.of
    return expression


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
