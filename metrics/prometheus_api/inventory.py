"""The series that match a selector, among the clusters that the caller may see.

Series whose newest minute is before the requested time are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from clusters.models import Cluster
from metrics.prometheus_api.deadline import Deadline
from metrics.prometheus_api.errors import TooMuchError
from metrics.prometheus_api.matchers import fit, matchers, split
from metrics.prometheus_api.metric_names import (
    CLUSTER_LABELS,
    KIND_LABELS,
    METRICS,
    Metric,
    labels_of,
)
from metrics.prometheus_api.promql import Match
from metrics.series.catalog import Kind
from metrics.series.rows import SeriesKey
from metrics.stores import get_store

MAX_SERIES = 100_000


@dataclass(frozen=True, slots=True)
class Thing:
    """A node, filesystem, pod or cluster; ``labels`` are all but the metric's name."""

    key: SeriesKey
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """The matches of one kind in one cluster: each metric of each thing.

    ``of_kind`` is how many series of the kind the cluster has in all.
    """

    cluster: Cluster
    kind: Kind
    metrics: tuple[Metric, ...]
    things: tuple[Thing, ...]
    of_kind: int


def find(
    clusters: Iterable[Cluster],
    matches: Sequence[Match],
    *,
    since: int,
    deadline: Deadline,
    kinds: Iterable[Kind] = tuple(KIND_LABELS),
) -> Iterator[Found]:
    """Yield the matching series, cluster by cluster.

    Args:
        clusters: clusters that the caller may see, with their customer.
        matches: conditions that must all hold; empty for all series.
        since: Unix time in seconds; series whose newest minute is older are left out.
        deadline: the deadline of the whole query.
        kinds: the kinds of series to search.

    Raises:
        QueryError: a regular expression is invalid, or the time is up.
    """
    by_name, others = split(matchers(matches, deadline.check), ("__name__",))
    by_cluster, by_series = split(others, CLUSTER_LABELS)
    metrics = [one for one in METRICS.values() if fit(by_name, {"__name__": one.name})]
    chosen = {kind: tuple(m for m in metrics if m.kind == kind) for kind in kinds}
    for cluster in clusters:
        shared = cluster_labels(cluster)
        if not fit(by_cluster, shared):
            continue
        for kind, of_kind in chosen.items():
            if not of_kind:
                continue
            deadline.check()
            present = 0
            things = []
            for key, labels in _present(cluster, kind, since):
                present += 1
                if fit(by_series, labels):
                    things.append(Thing(key, {**shared, **labels}))
            if things:
                yield Found(cluster, kind, of_kind, tuple(things), present)


def check_number(series: int) -> None:
    """Check that a number of series is within the limit.

    Raises:
        TooMuchError: it is not.
    """
    if series > MAX_SERIES:
        msg = f"more than {MAX_SERIES:,} series fit; narrow the selector by labels"
        raise TooMuchError(msg)


def cluster_labels(cluster: Cluster) -> dict[str, str]:
    """Return the labels that every series of a cluster has."""
    labels = {"cluster": str(cluster.pk), "cluster_name": cluster.name}
    if cluster.customer is not None:
        labels["customer"] = cluster.customer.name
    return labels


def _present(
    cluster: Cluster, kind: Kind, since: int
) -> Iterator[tuple[SeriesKey, dict[str, str]]]:
    for row in get_store().last(cluster.pk, kind, since=since):
        yield row.key, labels_of(row.key, row.node)
