"""Since when something is off, read from the stored minutes.

One read of a day's minutes for each thing that is new, one more of hours where the day does not
reach back far enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from clusters.conditions import Condition
from clusters.node_inventory import SeenNode
from metrics.pulling.conditions import LIMITS
from metrics.series.rows import Columns, SeriesKey
from metrics.series.windows import DAY, HOUR, MINUTE, utc_datetime
from metrics.stores.reader import MetricReader

MAX_LOOKUPS = 10
"""How many are looked up in one pull; the others at the next ones."""
MINUTES_BACK = DAY
HOURS_BACK = 90 * DAY

Bad = Callable[[Mapping[str, float]], bool]
"""Whether one bucket's means say that it is off."""


def date_nodes(
    store: MetricReader, cluster: UUID, nodes: Sequence[SeenNode], end: int, skew: float
) -> list[SeenNode]:
    """Return nodes; those that are not ready with their since, as far as it was looked up.

    Args:
        store: holds the minutes.
        cluster: the cluster's id.
        nodes: the nodes of the newest minute; one that has a since keeps it.
        end: end of the newest minute in Unix seconds, by the source's clock.
        skew: seconds by which that clock is ahead of ours.
    """
    dated, left = [], MAX_LOOKUPS
    for node in nodes:
        if node.ready is not False or (node.since is not None and not node.at_least) or not left:
            dated.append(node)
            continue
        left -= 1
        key = SeriesKey("node", "", node.name)
        found = since(store, cluster, key, ("ready",), lambda v: round(v["ready"]) == 0, end)
        since_at, at_least = _earlier(found, skew, node.since)
        dated.append(replace(node, since=since_at, at_least=at_least))
    return dated


def date_conditions(
    store: MetricReader, cluster: UUID, conditions: Iterable[Condition], end: int, skew: float
) -> list[Condition]:
    """Return conditions with their since, as far as it was looked up; as :func:`date_nodes`."""
    dated, left = [], MAX_LOOKUPS
    for one in conditions:
        asked = _question(one)
        known = one.since is not None and not one.at_least
        if asked is None or known or one.gone_at is not None or not left:
            dated.append(one)
            continue
        left -= 1
        key, fields, bad = asked
        found = since(store, cluster, key, fields, bad, end)
        since_at, at_least = _earlier(found, skew, one.since)
        dated.append(replace(one, since=since_at, at_least=at_least))
    return dated


def since(
    store: MetricReader, cluster: UUID, key: SeriesKey, fields: Sequence[str], bad: Bad, end: int
) -> tuple[int, bool]:
    """Return the start of the unbroken bad time before ``end``, and whether it may be older.

    It may be older where the minute before it is not stored.

    Args:
        store: holds the minutes.
        cluster: the cluster's id.
        key: the series.
        fields: its fields that ``bad`` needs; a bucket that lacks one says nothing.
        bad: whether a bucket's means are bad.
        end: end of the newest minute, which is bad, in Unix seconds.
    """
    start = end - MINUTES_BACK
    first, edge = _first_bad(store.read_fields(cluster, key, fields, "1m", start, end), bad, end)
    if edge is not None:
        return first, edge + MINUTE < first
    hours = store.read_fields(cluster, key, fields, "1h", end - HOURS_BACK, first // HOUR * HOUR)
    earliest, _ = _first_bad(hours, bad, first)
    return earliest, True


def _first_bad(columns: Mapping[str, Columns], bad: Bad, newest: int) -> tuple[int, int | None]:
    """Return the first bucket of the bad time, ``newest`` if none; and the good one before it."""
    first = newest
    for t, values in reversed(_rows(columns)):
        if not bad(values):
            return first, t
        first = t
    return first, None


def _rows(columns: Mapping[str, Columns]) -> list[tuple[int, dict[str, float]]]:
    """Return (time, means) of the buckets that have all fields, ascending."""
    means = [
        {t: total / n for t, n, total in zip(c.t, c.n, c.total, strict=True)}
        for c in columns.values()
    ]
    times = sorted(set.intersection(*map(set, means))) if means else []
    return [(t, dict(zip(columns, (mean[t] for mean in means), strict=True))) for t in times]


def _question(one: Condition) -> tuple[SeriesKey, tuple[str, ...], Bad] | None:
    """Return which series, which fields, and what is bad; None where minutes do not say."""
    if one.what not in LIMITS or one.ratio is None:
        return None
    low, high = LIMITS[one.what]
    limit = high if one.ratio >= high else low
    match one.what:
        case "filesystem":
            key, whole, part = SeriesKey("filesystem", one.node, one.name), "cap", "used"
        case "inodes":
            key = SeriesKey("filesystem", one.node, one.name)
            whole, part = "inodes_total", "inodes_free"
            return key, (part, whole), lambda v: v[part] <= (1 - limit) * v[whole]
        case _:
            key, whole, part = SeriesKey("cluster", "", ""), "mem_cap", "mem_ws"
    return key, (part, whole), lambda v: v[part] >= limit * v[whole]


def _earlier(found: tuple[int, bool], skew: float, known: datetime | None) -> tuple[datetime, bool]:
    """Return a since by our clock; a known one that is older stays, for minutes expire."""
    at = utc_datetime(found[0]) - timedelta(seconds=skew)
    if known is not None and known <= at and found[1]:
        return known, True
    return at, found[1]
