"""From a cluster to the source that answers for it, and the client that carries its credentials."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from clusters.models import Cluster
from clusters.tunnel.client.http_client import ClusterClient
from metrics.connections.config import SourceConfig, config_of, source_name, source_row
from metrics.connections.source_limits import SourceLimits, behind_seconds
from metrics.models import MetricSource, PullSchedule
from metrics.retention.in_force import retention_of
from metrics.series.source_answer import SourceAnswer
from metrics.sources.agent.source import AgentSource
from metrics.sources.base import HttpSource
from metrics.sources.etcd import EtcdSource
from metrics.sources.kinds import KINDS, Adapter, Limits
from metrics.sources.parse_concurrency import ParseSlot
from opscenter.core.encryption import SealBrokenError
from opscenter.core.errors import (
    InvalidInputError,
    ServiceUnavailableError,
    SourceConfigError,
)

AnySource = AgentSource | HttpSource
Connect = Callable[[Cluster], AbstractAsyncContextManager[Any]]
"""Opens the way to the source: a :class:`~metrics.sources.base.JsonClient` or ``HttpClient``."""


@dataclass(frozen=True, slots=True)
class SourceConnection:
    """A cluster's source, how to get to it and on which terms."""

    cluster: Cluster
    source: AnySource
    connect: Connect
    limits: SourceLimits
    etcd: MetricSource | None = None  # to be read besides

    def fetch(
        self, start: int, end: int, now: float, slot: ParseSlot, *, seconds: float
    ) -> SourceAnswer:
        """Ask for ``[start, end)``, from any thread.

        The turn is held afterwards, for what the rows are wanted for.

        Args:
            start: minute aligned, Unix seconds.
            end: exclusive.
            now: our clock.
            slot: of this thread.
            seconds: the deadline of it all.

        Raises:
            ClusterError: nothing can be said of the window.
        """
        return asyncio.run(self.ask(start, end, now, slot, seconds=seconds))

    async def ask(
        self, start: int, end: int, now: float, slot: ParseSlot, *, seconds: float
    ) -> SourceAnswer:
        """Ask for ``[start, end)``; as :meth:`fetch`, for a running event loop."""
        try:
            async with asyncio.timeout(seconds) as limit, self.connect(self.cluster) as client:
                answer = await self.source.fetch(client, start, end, now=now, slot=slot)
                limit.reschedule(None)  # what took long after the answer is not the cluster's
                return answer
        except TimeoutError as exc:
            msg = f"source of {self.cluster.name}: no complete answer within {seconds:g} s"
            raise ServiceUnavailableError(msg) from exc


def connection_to(
    cluster: Cluster, schedule: PullSchedule | None, connect: Connect | None = None
) -> SourceConnection:
    """Return the way to a cluster's source. 1 query; some more before its first data.

    Args:
        cluster: which cluster, with its status.
        schedule: of its stream; None before the first pull.
        connect: another way than through the tunnel, for tests.

    Raises:
        SourceConfigError: the source cannot be asked as it is set.
    """
    rows = {row.role: row for row in MetricSource.objects.filter(cluster=cluster)}
    row = rows.get("main")
    try:
        source, by_default = _source_in(row)
    except (SealBrokenError, InvalidInputError) as exc:
        msg = f"source of {cluster.name}: {exc}"
        raise SourceConfigError(msg) from exc
    known = (row.probe or {}).get("resolutions") if row is not None else None
    behind = behind_seconds(cluster.current.clock_skew_ms)
    reaches = [(one.step, one.reach) for one in source.resolutions]
    limits = SourceLimits(
        settle_seconds=source.settle_seconds + behind,
        behind_seconds=behind,
        overlap_seconds=source.overlap_seconds,
        longest_request=source.longest_request_seconds,
        reaches=tuple(_reaches(known) or reaches),
        source=source_name(row),
        since=schedule.source_since if schedule is not None else 0,
        late=row is not None,
        wanted=max(retention_of(cluster).seconds.values()) if _is_new(cluster) else None,
    )
    return SourceConnection(cluster, source, connect or by_default, limits, rows.get("etcd"))


def source_of(cluster: Cluster) -> tuple[AnySource, Connect]:
    """Return what answers for a cluster's nodes, filesystems and pods, and the way to it.

    One query. The agent's own collectors answer where no other source is set.

    Raises:
        SealBrokenError: its credentials cannot be opened.
    """
    return _source_in(source_row(cluster))


def _source_in(row: MetricSource | None) -> tuple[AnySource, Connect]:
    if row is None:
        return AgentSource(budget_seconds=_budget()), by_tunnel
    config = config_of(row)
    return main_adapter(config), connector(config)


def _is_new(cluster: Cluster) -> bool:
    """Return whether no data came yet: how much of the past is wanted matters only then."""
    return cluster.current.data_as_of is None


def _reaches(known: Sequence[Sequence[Any]] | None) -> list[tuple[int, int | None]]:
    """Return what a test found that the server keeps: (step, reach) in seconds, finest first."""
    return [(int(step), reach) for step, reach, _ in known or ()]


def _budget() -> float:
    """Return after how long a source asks for no further piece, so that what is in is stored."""
    return settings.PULL_DEADLINE_SECONDS / 2


def main_adapter(config: SourceConfig) -> HttpSource:
    """Return the adapter that reads a main source.

    Raises:
        InvalidInputError: if there is none for this kind, or not with its settings.
    """
    made = adapter(config) if config.kind in KINDS else None
    if made is None or isinstance(made, EtcdSource):
        raise InvalidInputError(f"kind: {config.kind} is no main source of this version")
    return made


def adapter(config: SourceConfig) -> Adapter:
    """Return the adapter of a source of any of :data:`KINDS`.

    Raises:
        InvalidInputError: its settings cannot be used.
    """
    limits = Limits(budget_seconds=_budget(), max_bytes=settings.PULL_MAX_BYTES)
    try:
        return KINDS[config.kind].adapter(config.settings, limits)
    except ValueError as exc:
        raise InvalidInputError(f"settings: {exc}") from exc


def by_tunnel(cluster: Cluster) -> ClusterClient:
    """Return the client that asks a cluster's agent through the hub's gateway."""
    return ClusterClient(
        cluster.pk,
        "agent",
        deadline_seconds=settings.PULL_DEADLINE_SECONDS,
        max_bytes=settings.PULL_MAX_BYTES,
        cluster_name=cluster.name,
    )


def connector(config: SourceConfig) -> Callable[[Cluster], ClusterClient]:
    """Return what opens the client of a source: with its credentials, and TLS where set."""

    def connect(cluster: Cluster) -> ClusterClient:
        return ClusterClient(
            cluster.pk,
            config.service,
            deadline_seconds=settings.PULL_DEADLINE_SECONDS,
            max_bytes=settings.PULL_MAX_BYTES,
            cluster_name=cluster.name,
            headers=credentials(config),
            path_prefix=config.settings.get("path_prefix", ""),
            tls=config.tls(),
        )

    return connect


def credentials(config: SourceConfig) -> dict[str, str]:
    """Return the headers that sign us in; {} where nothing is set."""
    token, password = config.secrets.get("token", ""), config.secrets.get("password", "")
    if token:
        return {"Authorization": f"{KINDS[config.kind].auth_scheme} {token}"}
    user = config.settings.get("username", "")
    if user or password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {}
