"""The current nodes, filesystems and pods of clusters, by their newest minute, and searches.

Used through :mod:`metrics.query` only. Lists are relative to the cluster's newest data, so they
stay the same while the cluster is unreachable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clusters.models import Cluster
from metrics.query.answers import SeriesDetail, SeriesList, SeriesNow
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
    return None if last is None else _now(last, last.ts)


@reads_store
def nodes(cluster: Cluster, now: int) -> SeriesList:
    """Return the nodes by name, including those gone within a day before the newest data.

    ``now`` is unused, only for a uniform signature; the list is relative to the cluster's newest
    data, so that it stays the same while the cluster is unreachable.
    """
    del now
    newest = _newest(cluster)
    rows = get_store().last(cluster.id, "node", since=newest - GONE_SECONDS)
    items = sorted((_now(row, newest) for row in rows), key=lambda item: item.name)
    return SeriesList(_as_of(newest), len(items), tuple(items))


@reads_store
def filesystems(cluster: Cluster, now: int, node: str | None = None) -> SeriesList:
    """Return the present filesystems, of one node or all, the fullest first."""
    del now
    newest = _newest(cluster)
    rows = get_store().last(cluster.id, "filesystem", since=newest)
    items = [_now(row, newest) for row in rows if node is None or row.key.ns == node]
    items.sort(key=lambda item: (-(item.used_ratio or 0), item.ns, item.name))
    return SeriesList(_as_of(newest), len(items), tuple(items))


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
    return SeriesList(_as_of(newest), len(rows), tuple(_now(row, newest) for row in shown))


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
    return SeriesList(_as_of(newest), len(rows), tuple(_now(row, newest) for row in rows))


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
        _now(row, newest) for row in sorted(rows, key=lambda row: (row.key.ns, row.key.name))
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
    within_seconds: int = 7 * DAY,
) -> list[FoundSeries]:
    """Return pods of several clusters whose namespace or name contains ``text``.

    Args:
        clusters: the clusters to search, all of which the user may see.
        text: text to search for, case-insensitive for ASCII letters; "" finds every pod.
        now: current Unix time in seconds.
        order: a field, for largest first; "" for the newest first, then by name.
        limit: maximum number of pods.
        within_seconds: maximum age of a pod's newest minute in seconds.

    Raises:
        InvalidInputError: an unknown order.
        MetricsUnavailableError: the store cannot be read.
    """
    if order and order not in FIELD_NAMES["pod"]:
        msg = f"order: {order!r} is not a field of pods"
        raise InvalidInputError(msg)
    by_id = {cluster.id: cluster for cluster in clusters}
    store = get_store()
    found = store.find(
        by_id, "pod", text.strip(), since=now - within_seconds, limit=limit, order=order
    )
    newest = {cluster: _newest(by_id[cluster]) for cluster in {cluster for cluster, _ in found}}
    return [FoundSeries(by_id[cluster], _now(row, newest[cluster])) for cluster, row in found]


def _newest(cluster: Cluster) -> int:
    """Return the start of the cluster's newest minute; 0 before the first."""
    last = get_store().last_one(cluster.id, SeriesKey("cluster", "", ""))
    return 0 if last is None else last.ts


def _as_of(newest: int) -> int | None:
    return newest + 60 if newest else None


def _now(row: LastRow, newest: int) -> SeriesNow:
    return SeriesNow(
        key=row.key,
        as_of=row.ts + 60,
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
    return SeriesDetail(_now(last, newest), first, _as_of(newest))


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
