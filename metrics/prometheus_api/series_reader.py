"""Reads the series of a selector onto a query's grid, a part of its times after the other.

A part is so small that what is read for it fits into a few megabytes, whatever the query asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from clusters.models import Cluster
from metrics.prometheus_api.deadline import Deadline
from metrics.prometheus_api.errors import TooMuchError
from metrics.prometheus_api.inventory import Found, check_number
from metrics.prometheus_api.metric_names import Metric
from metrics.prometheus_api.sampling import Grid, choose_tier, place
from metrics.query.tiers import WIDEST
from metrics.query.validation import finest_stored
from metrics.retention.in_force import retentions_of
from metrics.series.catalog import TIERS, Kind
from metrics.series.rows import Columns, SeriesKey
from metrics.stores import get_store

MAX_SAMPLES = 4_000_000
"""Read or given by one query."""
READ_AT_ONCE = 100_000
"""Samples, of some 250 bytes each while they are read."""
FEW_SERIES = 8
"""Up to this many series are read one by one, and up to a quarter of those of a kind; more of one
cluster together, which reads all of the kind."""

_CHECK_EVERY = 8
Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One series of an answer: labels, and a value per time, None where there is none."""

    labels: dict[str, str]
    values: Values


@dataclass(frozen=True, slots=True)
class _Source:
    """The matches of one kind in one cluster, and the buckets that they are read from."""

    found: Found
    tier: str

    @property
    def width(self) -> int:
        """Return the width of a bucket in seconds."""
        return TIERS[self.tier]

    @property
    def one_by_one(self) -> bool:
        """Return whether each series is read by itself."""
        number = len(self.found.things)
        return number <= FEW_SERIES or 4 * number <= self.found.of_kind

    def columns(self, field: str, grid: Grid) -> Callable[[SeriesKey], Columns | None]:
        """Return a function that returns a series' buckets of one field."""
        store, cluster, kind = get_store(), self.found.cluster.pk, self.found.kind
        start, end = grid.reach(self.width)
        if self.one_by_one:
            return lambda key: store.read(cluster, key, field, self.tier, start, end)
        return store.read_many(cluster, kind, field, self.tier, start, end).get

    def at_once(self, grid: Grid) -> int:
        """Return how many samples are in memory at once if all of a grid is read."""
        buckets = _buckets(grid, self.width)
        read = buckets if self.one_by_one else self.found.of_kind * buckets
        return max(read, len(self.found.things) * len(self.found.metrics) * grid.count)


class SeriesReader:
    """Reads the series that were found onto a grid."""

    def __init__(
        self, clusters: Iterable[Cluster], grid: Grid, now: int, deadline: Deadline
    ) -> None:
        self._grid = grid
        self._now = now
        self._deadline = deadline
        self._retentions = retentions_of(clusters, now)
        self._finest: dict[UUID, int] = {}
        self._sources: list[_Source] = []
        self._series = self._samples = 0

    def add(self, found: Found) -> None:
        """Take the series found in one cluster.

        Raises:
            TooMuchError: with those taken before they are too many, or have too many samples.
        """
        series = len(found.things) * len(found.metrics)
        self._series += series
        check_number(self._series)
        source = _Source(found, self._tier(found.cluster, found.kind))
        # Steps may be finer than buckets.
        self._samples += series * max(self._grid.count, _buckets(self._grid, source.width))
        if self._samples > MAX_SAMPLES:
            msg = (
                f"the query would give or read more than {MAX_SAMPLES:,} samples; narrow the"
                " selector or the range, or widen the step"
            )
            raise TooMuchError(msg)
        self._sources.append(source)

    def parts(self) -> Iterator[tuple[int, int, list[Row]]]:
        """Yield the index of a part's first time, how many times it has, and its series.

        Each series of each part that has a value; ascending, without a gap.
        """
        step = self._times_at_once()
        for first in range(0, self._grid.count, step):
            part = self._grid.part(first, min(step, self._grid.count - first))
            rows = [row for source in self._sources for row in self._read(source, part)]
            yield first, part.count, rows

    def _times_at_once(self) -> int:
        """Return how many times a part has, at least 1."""
        whole = max((source.at_once(self._grid) for source in self._sources), default=0)
        given = sum(len(one.found.things) * len(one.found.metrics) for one in self._sources)
        whole = max(whole, given * self._grid.count)
        return max(1, self._grid.count * READ_AT_ONCE // max(whole, READ_AT_ONCE))

    def _read(self, source: _Source, grid: Grid) -> Iterator[Row]:
        columns_of: Callable[[SeriesKey], Columns | None] | None = None
        field = ""
        for metric in source.found.metrics:
            if columns_of is None or metric.field != field:
                columns_of = None  # forget the former field's before the next one's are read
                field = metric.field
                columns_of = source.columns(field, grid)
            yield from self._placed(source, metric, columns_of, grid)

    def _placed(
        self,
        source: _Source,
        metric: Metric,
        columns_of: Callable[[SeriesKey], Columns | None],
        grid: Grid,
    ) -> Iterator[Row]:
        for index, thing in enumerate(source.found.things):
            if index % _CHECK_EVERY == 0:
                self._deadline.check()
            columns = columns_of(thing.key)
            if columns is None:
                continue
            values = place(columns, source.width, grid, metric.statistic)
            if any(value is not None for value in values):
                yield Row({"__name__": metric.name, **thing.labels}, values)

    def _tier(self, cluster: Cluster, kind: Kind) -> str:
        reach = self._retentions[cluster.pk].reach(kind)
        tier = choose_tier(self._grid, now=self._now, reach=reach)
        if tier == WIDEST:
            return tier
        if cluster.pk not in self._finest:
            self._finest[cluster.pk] = finest_stored(cluster.pk, *self._grid.reach(TIERS[tier]))
        finest = self._finest[cluster.pk]
        return choose_tier(self._grid, now=self._now, reach=reach, finest=finest)


def _buckets(grid: Grid, width: int) -> int:
    """Return how many buckets a grid reaches over."""
    start, end = grid.reach(width)
    return (end - start) // width
