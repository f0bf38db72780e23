"""The current nodes, filesystems and pods of clusters, by their newest minute, and searches.

Used through :mod:`metrics.query` only. Lists are relative to the cluster's newest data, so they
stay the same while the cluster is unreachable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from clusters.models import Cluster
from metrics.query.answers import SeriesDetail, SeriesList, SeriesNow
from metrics.query.clock import seconds_ahead
from metrics.query.validation import reads_store
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.series.windows import DAY
from metrics.stores import get_store
from metrics.stores.reader import LastRow
from opscenter.core.errors import InvalidInputError

GONE_SECONDS = 86_400
"""How long gone series stay in the lists, in seconds."""


@reads_store
def cluster_now(cluster: Cluster) -> SeriesNow | None:
    """Return the cluster's own newest minute, summed over its nodes; None before the first."""
    last = get_store().last_one(cluster.id, SeriesKey("cluster", "", ""))
    return None if last is None else _now(cluster, last, last.ts)


@reads_store
def nodes(cluster: Cluster, now: int) -> SeriesList:
    """Return the nodes by name, including those gone within a day before the newest data.

    ``now`` is unused, only for a uniform signature; the list is relative to the cluster's newest
    data, so that it stays the same while the cluster is unreachable.
    """
    del now
    newest = _newest(cluster)
    rows = get_store().last(cluster.id, "node", since=newest - GONE_SECONDS)
    items = sorted((_now(cluster, row, newest) for row in rows), key=lambda item: item.name)
    return SeriesList(_as_of(cluster, newest), len(items), tuple(items))


@reads_store
def filesystems(cluster: Cluster, now: int, node: str | None = None) -> SeriesList:
    """Return the present filesystems, of one node or all, the fullest first."""
    del now
    newest = _newest(cluster)
    rows = get_store().last(cluster.id, "filesystem", since=newest)
    items = [_now(cluster, row, newest) for row in rows if node is None or row.key.ns == node]
    items.sort(key=lambda item: (-(item.used_ratio or 0), item.ns, item.name))
    return SeriesList(_as_of(cluster, newest), len(items), tuple(items))


@reads_store
def pods(
    cluster: Cluster,
    now: int,
    order: str = "cpu_mc",
    limit: int = 100,
    search: str = "",
    node: str | None = None,
) -> SeriesList:
    """Return the pods of the cluster's newest minute, of one node or all.

    As many as the cluster's own count; :func:`gone_pods` returns the others.

    Args:
        cluster: a cluster that the user may see.
        now: current Unix time in seconds; unused.
        order: a field, for largest first and not measured last; or "name".
        limit: maximum number of items; 0 for all.
        search: part of the namespace, the name or the node, case-insensitive; "" for all.
        node: name of the node that the pods run on; None for all.

    Raises:
        InvalidInputError: an unknown order.
        MetricsUnavailableError: the store cannot be read.
    """
    del now
    if order != "name" and order not in FIELD_NAMES["pod"]:
        msg = f"order: {order!r} is not a field of pods"
        raise InvalidInputError(msg)
    newest = _newest(cluster)
    text = search.strip().lower()
    rows = [
        row
        for row in get_store().last(cluster.id, "pod", since=newest)
        if (node is None or row.node == node) and _fits(row, text)
    ]
    rows.sort(key=lambda row: (row.key.ns, row.key.name))
    if order != "name":
        at = FIELD_NAMES["pod"].index(order)
        rows.sort(key=lambda row: _descending(row.values[at]))
    shown = rows[:limit] if limit else rows
    return SeriesList(
        _as_of(cluster, newest), len(rows), tuple(_now(cluster, row, newest) for row in shown)
    )


@reads_store
def gone_pods(cluster: Cluster, *, search: str = "") -> SeriesList:
    """Return the pods gone within a day before the newest data, the latest first.

    Args:
        cluster: a cluster that the user may see.
        search: part of the namespace, the name or the node, case-insensitive; "" for all.
    """
    newest = _newest(cluster)
    text = search.strip().lower()
    rows = [
        row
        for row in get_store().last(cluster.id, "pod", since=newest - GONE_SECONDS)
        if row.ts < newest and _fits(row, text)
    ]
    rows.sort(key=lambda row: (-row.ts, row.key.ns, row.key.name))
    return SeriesList(
        _as_of(cluster, newest), len(rows), tuple(_now(cluster, row, newest) for row in rows)
    )


@reads_store
def pods_since(cluster: Cluster, since: int) -> tuple[SeriesNow, ...]:
    """Return the pods that were measured at or after ``since``, present or gone, by ns and name.

    Args:
        cluster: a cluster that the user may see.
        since: start of a minute in Unix seconds.
    """
    newest = _newest(cluster)
    rows = get_store().last(cluster.id, "pod", since=since)
    return tuple(
        _now(cluster, row, newest)
        for row in sorted(rows, key=lambda row: (row.key.ns, row.key.name))
    )


@reads_store
def node(cluster: Cluster, name: str) -> SeriesDetail | None:
    """Return one node, present or gone; None if it was never seen."""
    return _detail(cluster, SeriesKey("node", "", name))


@reads_store
def pod(cluster: Cluster, ns: str, name: str) -> SeriesDetail | None:
    """Return one pod, present or gone; None if it was never seen or was deleted."""
    return _detail(cluster, SeriesKey("pod", ns, name))


@reads_store
def search_pods(
    clusters: Iterable[Cluster],
    text: str,
    *,
    now: int,
    order: str = "",
    limit: int = 100,
    skip: int = 0,
    count_to: int = 0,
    within_seconds: int = 7 * DAY,
) -> FoundPods:
    """Return pods of several clusters whose namespace or name contains ``text``.

    Args:
        clusters: the clusters to search, all of which the user may see.
        text: text to search for, case-insensitive for ASCII letters; "" finds every pod.
        now: current Unix time in seconds.
        order: a field, for largest first; "" for the newest first, then by name.
        limit: maximum number of pods.
        skip: how many to leave out first.
        count_to: up to how many to count.
        within_seconds: maximum age of a pod's newest minute in seconds, by our clock.

    Raises:
        InvalidInputError: an unknown order.
        MetricsUnavailableError: the store cannot be read.
    """
    if order and order not in FIELD_NAMES["pod"]:
        msg = f"order: {order!r} is not a field of pods"
        raise InvalidInputError(msg)
    by_id = {cluster.id: cluster for cluster in clusters}
    most = max(skip + limit, count_to)
    all_found = _found(by_id, text.strip(), now - within_seconds, most, order)
    found = all_found[skip : skip + limit]
    newest = {cluster: _newest(by_id[cluster]) for cluster in {cluster for cluster, _ in found}}
    items = (FoundSeries(by_id[pk], _now(by_id[pk], row, newest[pk])) for pk, row in found)
    return FoundPods(tuple(items), len(all_found))


def _found(
    clusters: Mapping[UUID, Cluster], text: str, since: int, limit: int, order: str
) -> list[tuple[UUID, LastRow]]:
    """Return pods of clusters since a moment by our clock, in order; a search for each clock."""
    by_clock: dict[int, list[UUID]] = {}
    for pk, cluster in clusters.items():
        by_clock.setdefault(seconds_ahead(cluster), []).append(pk)
    store = get_store()
    found = [
        (ahead, pk, row)
        for ahead, own in by_clock.items()
        for pk, row in store.find(own, "pod", text, since=since + ahead, limit=limit, order=order)
    ]
    if len(by_clock) > 1:
        place = FIELD_NAMES["pod"].index(order) if order else None

        def rank(one: tuple[int, UUID, LastRow]) -> tuple[tuple[bool, int], str, str]:
            ahead, _, row = one
            value = row.ts - ahead if place is None else row.values[place]
            return _descending(value), row.key.ns, row.key.name

        found.sort(key=rank)
    return [(pk, row) for _, pk, row in found[:limit]]


def _newest(cluster: Cluster) -> int:
    """Return the start of the cluster's newest minute; 0 before the first."""
    last = get_store().last_one(cluster.id, SeriesKey("cluster", "", ""))
    return 0 if last is None else last.ts


def _as_of(cluster: Cluster, newest: int) -> int | None:
    return newest + 60 - seconds_ahead(cluster) if newest else None


def _now(cluster: Cluster, row: LastRow, newest: int) -> SeriesNow:
    return SeriesNow(
        key=row.key,
        as_of=row.ts + 60 - seconds_ahead(cluster),
        minute_end=row.ts + 60,
        present=row.ts >= newest,  # as in the counts of metrics.pulling.summary
        node=row.node,
        attrs=row.attrs,
        values=dict(zip(FIELD_NAMES[row.key.kind], row.values, strict=True)),
    )


def _detail(cluster: Cluster, key: SeriesKey) -> SeriesDetail | None:
    store = get_store()
    last = store.last_one(cluster.id, key)
    first = store.first_seen(cluster.id, key)
    if last is None or first is None:
        return None
    newest = _newest(cluster)
    return SeriesDetail(
        _now(cluster, last, newest), first - seconds_ahead(cluster), _as_of(cluster, newest)
    )


def _fits(row: LastRow, text: str) -> bool:
    """Return whether ``text``, in lower case, is part of a pod's namespace, name or node."""
    return not text or text in f"{row.key.ns}/{row.key.name} {row.node}".lower()


def _descending(value: int | None) -> tuple[bool, int]:
    return (value is None, -(value or 0))


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """One result of a search over clusters."""

    cluster: Cluster
    now: SeriesNow


@dataclass(frozen=True, slots=True)
class FoundPods:
    """A part of what a search found; ``total`` counts all, as far as they were to be counted."""

    items: tuple[FoundSeries, ...]
    total: int
