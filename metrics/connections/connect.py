"""A cluster's source, and the client that carries its credentials."""

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
from metrics.sources.evidence import with_evidence_only
from metrics.sources.kinds import KINDS, Adapter, Limits
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.plausible import plausible
from opscenter.core.encryption import SealBrokenError
from opscenter.core.errors import (
    InvalidInputError,
    ServiceUnavailableError,
    SourceConfigError,
)

AnySource = AgentSource | HttpSource
Connect = Callable[[Cluster], AbstractAsyncContextManager[Any]]
"""Opens the source's client: a :class:`~metrics.sources.base.JsonClient` or ``HttpClient``."""


@dataclass(frozen=True, slots=True)
class SourceConnection:
    """A cluster's source, how to connect to it, and its limits."""

    cluster: Cluster
    source: AnySource
    connect: Connect
    limits: SourceLimits
    etcd: MetricSource | None = None  # to be read in addition

    def fetch(
        self, start: int, end: int, now: float, slot: ParseSlot, *, seconds: float
    ) -> SourceAnswer:
        """Fetch ``[start, end)``, from any thread.

        The slot is held on return, for the caller to use the rows. What cannot be believed is not
        in them: see :mod:`metrics.sources.plausible`.

        Args:
            start: start of the window in Unix seconds, minute aligned.
            end: end of the window in Unix seconds, exclusive, minute aligned.
            now: our clock in Unix seconds.
            slot: the parse slot of this thread.
            seconds: deadline of the whole call in seconds.

        Raises:
            ClusterError: nothing is known about the window.
        """
        return asyncio.run(self.fetch_async(start, end, now, slot, seconds=seconds))

    async def fetch_async(
        self, start: int, end: int, now: float, slot: ParseSlot, *, seconds: float
    ) -> SourceAnswer:
        """Fetch ``[start, end)``; as :meth:`fetch`, for a running event loop."""
        try:
            async with asyncio.timeout(seconds) as limit, self.connect(self.cluster) as client:
                answer = await self.source.fetch(client, start, end, now=now, slot=slot)
                limit.reschedule(None)  # time spent after the answer is not the cluster's
                return with_evidence_only(
                    plausible(answer), is_agent=isinstance(self.source, AgentSource)
                )
        except TimeoutError as exc:
            msg = f"source of {self.cluster.name}: no complete answer within {seconds:g} s"
            raise ServiceUnavailableError(msg) from exc


def connection_to(
    cluster: Cluster, schedule: PullSchedule | None, connect: Connect | None = None
) -> SourceConnection:
    """Return the connection to a cluster's source. 1 query; some more before its first data.

    Args:
        cluster: the cluster, with its status.
        schedule: the schedule of its stream; None before the first pull.
        connect: opens the client instead of the tunnel, for tests; None for the tunnel.

    Raises:
        SourceConfigError: the source's configuration cannot be used.
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
    """Return a cluster's main source, and how to connect to it.

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
    """Return whether no data came yet: only then it matters how much of the past is wanted."""
    return cluster.current.data_as_of is None


def _reaches(known: Sequence[Sequence[Any]] | None) -> list[tuple[int, int | None]]:
    """Return a test's resolutions of the server: (step, reach) in seconds, finest first."""
    return [(int(step), reach) for step, reach, _ in known or ()]


def _budget() -> float:
    """Return the seconds after which a source requests no further piece, to leave time to store."""
    return settings.PULL_DEADLINE_SECONDS / 2


def main_adapter(config: SourceConfig) -> HttpSource:
    """Return the adapter that reads a main source.

    Raises:
        InvalidInputError: the kind has no adapter, or its settings cannot be used.
    """
    made = adapter(config) if config.kind in KINDS else None
    if made is None or isinstance(made, EtcdSource):
        raise InvalidInputError(f"kind: {config.kind} is not a main source in this version")
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
    """Return the client that reaches a cluster's agent through the hub's gateway."""
    return ClusterClient(
        cluster.pk,
        "agent",
        deadline_seconds=settings.PULL_DEADLINE_SECONDS,
        max_bytes=settings.PULL_MAX_BYTES,
        cluster_name=cluster.name,
    )


def connector(config: SourceConfig) -> Callable[[Cluster], ClusterClient]:
    """Return a function that opens a source's client, with its credentials, and TLS where set."""

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
    """Return the authentication headers; {} if no credentials are set."""
    token, password = config.secrets.get("token", ""), config.secrets.get("password", "")
    if token:
        return {"Authorization": f"{KINDS[config.kind].auth_scheme} {token}"}
    user = config.settings.get("username", "")
    if user or password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {}
