"""From a cluster to the source that answers for it, and the client that carries its credentials."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from django.conf import settings

from clusters.models import Cluster
from clusters.tunnel.client import ClusterClient
from metrics.models import MetricSource
from metrics.source_config import SourceConfig, config_of, source_row
from metrics.sources.agent import AgentSource
from metrics.sources.base import HttpSource, Source
from opscenter.core.errors import InvalidInputError

AnySource = Source | HttpSource
Connect = Callable[[Cluster], AbstractAsyncContextManager[Any]]
"""Opens the way to the source: a :class:`~metrics.sources.base.JsonClient` or ``HttpClient``."""

_MAKERS: dict[str, Callable[[Mapping[str, str]], HttpSource]] = {}


def source_of(cluster: Cluster) -> tuple[AnySource, Connect]:
    """Return what answers for a cluster's nodes, filesystems and pods, and the way to it.

    One query. The agent's own collectors answer where no other source is set.

    Raises:
        SealBrokenError: its credentials cannot be opened.
    """
    row = source_row(cluster)
    if row is None:
        return AgentSource(budget_seconds=settings.PULL_DEADLINE_SECONDS / 2), by_tunnel
    return source_from(row)


def source_from(row: MetricSource) -> tuple[HttpSource, Connect]:
    """Return the adapter and the way of a stored main source.

    Raises:
        SealBrokenError: its credentials cannot be opened.
    """
    config = config_of(row)
    return adapter(config), connector(config)


def adapter(config: SourceConfig) -> HttpSource:
    """Return the adapter that reads a main source.

    Raises:
        InvalidInputError: if there is none for this kind.
    """
    maker = _MAKERS.get(config.kind)
    if maker is None:
        raise InvalidInputError(f"kind: {config.kind} is no main source of this version")
    return maker(config.settings)


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
        kind = "Token" if config.kind == "influxdb2" else "Bearer"
        return {"Authorization": f"{kind} {token}"}
    user = config.settings.get("username", "")
    if user or password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {}
