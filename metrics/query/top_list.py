"""The largest series of one cluster or of many, over any range."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from clusters.models import Cluster
from metrics.query.answers import Segment
from metrics.query.clock import seconds_ahead
from metrics.query.coverage_strip import minutes_due
from metrics.query.ranges import coverage
from metrics.query.tiers import WIDEST, tiers_holding
from metrics.query.validation import check_field, check_range, finest_stored, reads_store
from metrics.retention.in_force import retentions_of
from metrics.series.catalog import TIERS, Kind, Unit
from metrics.series.rollups import bucket_start
from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM
from metrics.stores import get_store
from metrics.stores.reader import TopRow

By = Literal["mean", "max"]

LEAST_BUCKETS = 12
"""A range is answered from the widest buckets of which it has at least this many: its ends are
rounded out to whole ones, by at most a twelfth of it."""

FEW = 100
"""If a search finds at most this many series, they are read one by one instead of all."""

_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class TopEntry:
    """One series of a top list, over the whole range.

    ``minutes`` of ``expected`` (since the series' first one) have data, of ``asked`` in the whole
    range; ``max`` is None where only means are known.
    """

    cluster: Cluster
    key: SeriesKey
    mean: float
    max: int | None
    minutes: int
    expected: int
    node: str  # of a pod, where it was last seen; "" for others
    attrs: Mapping[str, str]
    as_of: int | None  # end of its newest minute, by our clock
    asked: int  # minutes of the range, less those at its end that were not due yet
    first_seen: int | None  # its first minute ever stored, by our clock

    @property
    def coverage(self) -> float:
        """Return minutes present per minutes of the whole range, 0..1."""
        return min(1.0, self.minutes / self.asked) if self.asked else 0.0

    @property
    def is_whole(self) -> bool:
        """Return whether no minute is missing in which it lived."""
        return self.minutes >= 0.995 * self.expected

    def value(self, by: By) -> float:
        """Return the value that orders the list."""
        return self.mean if by == "mean" else self.max or 0


@dataclass(frozen=True, slots=True)
class TopAnswer:
    """The largest series, the largest first.

    ``start`` and ``end`` are the requested range rounded out to whole buckets of the widest tier
    that was read; ``tiers`` are all that were read, depending on each cluster's retention.
    ``clusters`` is the number of clusters that were read, ``total`` that of the series that were
    found, as far as they were to be counted.
    """

    kind: Kind
    field: str
    unit: Unit
    by: By
    start: int
    end: int
    tiers: tuple[str, ...]
    as_of: int | None  # end of the newest data of the clusters in the list, by our clock
    clusters: int
    entries: tuple[TopEntry, ...]
    total: int
    largest: float  # value of the first of all, by which the list is ordered; 0 without any


@reads_store
def top(  # noqa: PLR0913 - a query's parameters
    clusters: Iterable[Cluster],
    kind: Kind,
    field: str,
    start: int,
    end: int,
    *,
    now: int,
    by: By = "mean",
    limit: int = 20,
    skip: int = 0,
    count_to: int = 0,
    search: str = "",
) -> TopAnswer:
    """Return the series with the largest field over a range.

    Args:
        clusters: the clusters to read, all of which the user may see.
        kind: the kind of series.
        field: the name of a field of :data:`metrics.series.catalog.CATALOG`.
        start: start of the range in Unix seconds, inclusive.
        end: end of the range in Unix seconds, exclusive.
        now: current Unix time in seconds.
        by: "mean" over the minutes that have data, or "max" for the highest sample.
        limit: maximum number of series.
        skip: how many of the largest to leave out.
        count_to: up to how many to count.
        search: part of the namespace or name, case-insensitive; "" for all.

    Raises:
        InvalidInputError: an empty or absurd range, or an unknown field.
        MetricsUnavailableError: the store cannot be read.
    """
    unit = check_field(kind, field)
    check_range(start, end)
    by_id = {cluster.pk: cluster for cluster in clusters}
    store = get_store()
    most = max(skip + limit, count_to)
    rows: list[TopRow] = []
    spans: dict[UUID, tuple[int, int]] = {}
    by_tier = _by_tier(by_id.values(), kind, start, end, now)
    for tier, ids in by_tier.items():
        width = TIERS[tier]
        span = bucket_start(start, width), bucket_start(end + width - 1, width)
        spans |= dict.fromkeys(ids, span)
        rows += _rows(ids, kind, field, tier, span, by, most, search)
    rows = heapq.nsmallest(most, rows, key=lambda row: _rank(row, by))
    largest = -_rank(rows[0], by)[0] if rows else 0.0
    total, rows = len(rows), rows[skip : skip + limit]
    shown = {row.cluster for row in rows}
    heads = {cluster: store.position(cluster, STREAM).head for cluster in shown}
    strips = {one: coverage(by_id[one], *spans[one], now=now) for one in shown}
    entries = tuple(
        _entry(by_id[row.cluster], row, strips[row.cluster], heads[row.cluster]) for row in rows
    )
    return TopAnswer(
        kind, field, unit, by,
        min((low for low, _ in spans.values()), default=start),
        max((high for _, high in spans.values()), default=end),
        tuple(tier for tier in TIERS if tier in by_tier),
        max((head - seconds_ahead(by_id[one]) for one, head in heads.items() if head is not None),
            default=None),
        len(by_id), entries, total, largest,
    )  # fmt: skip


def choose_tier(
    start: int, end: int, *, now: int, reach: Mapping[str, int], finest: int = 0
) -> str:
    """Return the tier for a list over the range; see :func:`tiers_holding`."""
    tiers = tiers_holding(start, now=now, reach=reach, finest=finest)
    fitting = [tier for tier in tiers if (end - start) // TIERS[tier] >= LEAST_BUCKETS]
    return fitting[-1] if fitting else tiers[0]


def _asked(segments: Sequence[Segment]) -> int:
    """Return how many minutes a range has, less those at its end that no cluster could send yet."""
    until = max((one.end for one in segments if one.expected), default=None)
    return 0 if until is None else (until - segments[0].start) // 60


def _by_tier(
    clusters: Iterable[Cluster], kind: Kind, start: int, end: int, now: int
) -> dict[str, list[UUID]]:
    """Return the clusters by the tier that answers for them; three queries."""
    found: dict[str, list[UUID]] = {}
    for pk, retention in retentions_of(clusters, now).items():
        reach = retention.reach(kind)
        tier = choose_tier(start, end, now=now, reach=reach)
        if tier != WIDEST:
            finest = finest_stored(pk, start, end)
            tier = choose_tier(start, end, now=now, reach=reach, finest=finest)
        found.setdefault(tier, []).append(pk)
    return found


def _rows(
    ids: list[UUID],
    kind: Kind,
    field: str,
    tier: str,
    span: tuple[int, int],
    by: By,
    limit: int,
    search: str,
) -> list[TopRow]:
    """Return the largest series of clusters that one tier answers for, in no order.

    With a search, return all matches.
    """
    found = _searched(ids, kind, field, tier, span, search, by) if search else None
    if found is not None:
        return found
    wanted = _ALL if search else limit
    rows = get_store().top(ids, kind, field, tier, *span, limit=wanted, by=by)
    return [row for row in rows if _fits(row.key, search)]


def _searched(
    ids: list[UUID],
    kind: Kind,
    field: str,
    tier: str,
    span: tuple[int, int],
    search: str,
    by: By,
) -> list[TopRow] | None:
    """Return the series that a search finds, read one by one; None if there are too many."""
    store = get_store()
    found = store.find(ids, kind, search, limit=FEW + 1)
    if len(found) > FEW or "/" in search:  # "/" may separate a namespace and a name
        return None
    rows = []
    for cluster, last in found:
        columns = store.read(cluster, last.key, field, tier, *span)
        highs = [high for high in columns.high if high is not None]
        high = max(highs, default=None)
        if columns.n and (by == "mean" or high is not None):
            rows.append(TopRow(cluster, last.key, sum(columns.n), sum(columns.total), high))
    return rows


def _fits(key: SeriesKey, search: str) -> bool:
    return not search or search.lower() in f"{key.ns}/{key.name}".lower()


def _rank(row: TopRow, by: By) -> tuple[float, str, str, UUID]:
    worth = row.total / row.n if by == "mean" else row.high or 0
    return (-worth, row.key.ns, row.key.name, row.cluster)


def _entry(
    cluster: Cluster, row: TopRow, segments: Sequence[Segment], head: int | None
) -> TopEntry:
    store = get_store()
    last = store.last_one(cluster.pk, row.key)
    end = last.ts + 60 if last else None
    gone = end if end is not None and head is not None and end < head else None
    born, ahead = store.first_seen(cluster.pk, row.key), seconds_ahead(cluster)
    due = minutes_due(segments, born=born, gone=gone)
    return TopEntry(
        cluster, row.key, row.total / row.n, row.high, row.n, max(due, row.n),
        last.node if last else "", last.attrs if last else {},
        None if end is None else end - ahead,
        max(_asked(segments), row.n),
        None if born is None else born - ahead,
    )  # fmt: skip
