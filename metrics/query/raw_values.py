"""Raw values: a live query of a cluster's own source through the tunnel. Nothing is stored.

What cannot be believed is left out, as it is of stored minutes: :mod:`metrics.sources.plausible`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from django.conf import settings

from clusters.models import Cluster, ClusterStatus
from metrics.connections.config import source_row
from metrics.connections.connect import Connect, source_of
from metrics.query.validation import check_field, check_range
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.sources.base import RawAnswer, RawSource
from metrics.sources.bounds import limiting_field
from metrics.sources.plausible import plausible_points
from metrics.stores import StoreError, get_store
from opscenter.core.budgets import Slots
from opscenter.core.encryption import SealBrokenError
from opscenter.core.errors import (
    ClusterUnreachableError,
    InvalidInputError,
    ServiceUnavailableError,
    SourceConfigError,
)

MAX_SECONDS = 6 * 3600
"""The longest range of one query, in seconds."""

DEADLINE_SECONDS = 10.0
# They wait for a cluster, they do not work: many at once cost little. A cluster that never answers
# holds one slot, a user who asks for many two.
LIVE_QUERIES = Slots(
    "live_queries", "live queries to clusters",
    total=32, user=2, cluster=1, processes=settings.WEB_PROCESSES,
)  # fmt: skip


def raw(
    cluster: Cluster,
    key: SeriesKey,
    field: str,
    start: int,
    end: int,
    *,
    now: float,
    user: int | None = None,
    connect: Connect | None = None,
) -> RawAnswer:
    """Query the cluster for one field of one series, at its source's finest step.

    Waits for its turn and then for the cluster, each at most :data:`DEADLINE_SECONDS`. Call it from
    a thread without an event loop.

    Args:
        cluster: a cluster that the user may see, with its current status.
        key: a node, filesystem or pod.
        field: the name of a field of :data:`metrics.series.catalog.CATALOG`.
        start: start of the range in Unix seconds, inclusive.
        end: end of the range in Unix seconds, exclusive.
        now: current Unix time in seconds.
        user: primary key of the user who asks; None if nobody does, as in tests.
        connect: opens the client instead of the tunnel, for tests; None for the tunnel.

    Raises:
        InvalidInputError: the range is empty or longer than :data:`MAX_SECONDS`, the field is
            unknown, or the source does not have it.
        BudgetError: the user or the cluster has too many live queries under way.
        ClusterError: the tunnel is down, the service down or not consented, or the answer refused.
    """
    _check(key, field, start, end)
    _check_tunnel(cluster)
    source, by_default = _source(cluster)
    opened = (connect or by_default)(cluster)
    with LIVE_QUERIES.hold(wait_seconds=DEADLINE_SECONDS, user=user, cluster=cluster.pk):
        answer = asyncio.run(_query(cluster, source, opened, key, field, (start, end), now))
    most = _capacity(cluster, key, field)
    times, values = plausible_points(key.kind, field, answer.t, answer.v, most)
    return answer if values is answer.v else replace(answer, t=times, v=values)


def has_raw(cluster: Cluster) -> bool:
    """Return whether a cluster's source may have more than the stored minutes. One query.

    The agent's own collectors keep the same means of minutes that are stored.
    """
    return source_row(cluster) is not None


async def _query(
    cluster: Cluster,
    source: RawSource,
    opened: AbstractAsyncContextManager[Any],
    key: SeriesKey,
    field: str,
    span: tuple[int, int],
    now: float,
) -> RawAnswer:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS), opened as client:
            return await source.raw(client, key, field, *span, now=now)
    except TimeoutError as exc:
        msg = f"source of {cluster.name}: no complete answer within {DEADLINE_SECONDS:g} s"
        raise ServiceUnavailableError(msg) from exc


def _capacity(cluster: Cluster, key: SeriesKey, field: str) -> int | None:
    """Return the newest stored value of what limits a field; None if it is not known."""
    limiting = limiting_field(key.kind, field)
    if limiting is None:
        return None
    try:
        row = get_store().last_one(cluster.pk, key)
        if row is not None and key.kind == "pod":
            key = SeriesKey("node", "", row.node)
            row = get_store().last_one(cluster.pk, key)
    except StoreError:
        return None  # the values are live: they need no store
    return None if row is None else row.values[FIELD_NAMES[key.kind].index(limiting)]


def _check(key: SeriesKey, field: str, start: int, end: int) -> None:
    if key.kind == "cluster":
        raise InvalidInputError("kind: ask for a node, a filesystem or a pod")
    check_field(key.kind, field)
    check_range(start, end)
    if end - start > MAX_SECONDS:
        msg = f"start: raw values are limited to {MAX_SECONDS // 3600} hours"
        raise InvalidInputError(msg)


def _check_tunnel(cluster: Cluster) -> None:
    current: ClusterStatus | None = getattr(cluster, "current", None)
    if current is None or current.tunnel_up:
        return
    since = f" since {current.tunnel_since:%Y-%m-%d %H:%M} UTC" if current.tunnel_since else ""
    reason = f": {current.tunnel_reason}" if current.tunnel_reason else ""
    msg = f"the tunnel of {cluster.name} is down{since}{reason}"
    raise ClusterUnreachableError(msg)


def _source(cluster: Cluster) -> tuple[RawSource, Connect]:
    try:
        source, connect = source_of(cluster)
    except SealBrokenError as exc:
        msg = f"source of {cluster.name}: {exc}"
        raise SourceConfigError(msg) from exc
    if not isinstance(source, RawSource):
        raise InvalidInputError("kind: the source of this cluster has no raw values")
    return source, connect
