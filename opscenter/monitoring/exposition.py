"""Ops Center's own figures for Prometheus, computed when they are requested.

Nothing is kept in the web process: every figure comes from the databases and from Redis, so
that it is the same whichever web process answers, and right after a restart.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from django.conf import settings
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    UntypedMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from redis import Redis
from redis.exceptions import RedisError

from clusters.models import Cluster
from clusters.selectors import ClusterOverview, cluster_overviews, fleet_totals
from clusters.tunnel.counters import HubFigure, read_hub_metrics
from metrics.models import PullSchedule
from opscenter.core.ages import age_seconds
from opscenter.core.budgets import flush_refusals, read_refusals
from opscenter.core.heartbeats import redis_client
from opscenter.monitoring.readiness import (
    free_bytes,
    heartbeat_ages,
    missing_parts,
    part_names,
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
QUEUES = ("heartbeat", "pull", "backfill", "slow")
# Part of the key under which kombu stores a queue's tasks of a priority other than 0.
_PRIORITY_SEPARATOR = "\x06\x16"


def exposition(now: float | None = None) -> bytes:
    """Return all figures in the text format. Costs five queries and a few Redis calls.

    While Redis is away, what only it knows is missing and ``opscenter_redis_up`` is 0.
    """
    registry = CollectorRegistry()
    registry.register(_Figures(time.time() if now is None else now))
    return generate_latest(registry)


class _Figures:
    """One scrape's figures, as of ``now`` (Unix seconds)."""

    def __init__(self, now: float) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield _gauge("build_info", "The version that runs", ["version"], {(settings.VERSION,): 1})
        overviews = cluster_overviews(Cluster.objects.all(), datetime.fromtimestamp(self._now, UTC))
        yield from _fleet_figures(overviews, datetime.fromtimestamp(self._now, UTC))
        yield from _cluster_figures(overviews)
        yield from self._readiness_figures()
        yield from self._pull_figures({overview.id: overview.name for overview in overviews})
        try:
            families = list(self._redis_figures(redis_client()))
        except (RedisError, OSError):
            families = []
        yield _gauge("redis_up", "1 if Redis answers", [], {(): int(bool(families))})
        yield from families

    def _readiness_figures(self) -> Iterator[Metric]:
        """Yield what /readyz says."""
        missing = missing_parts(self._now)
        yield _gauge("ready", "1 if /readyz is 200", [], {(): int(not missing)})
        yield _gauge(
            "part_missing",
            "1 for a part that is not proven to work",
            ["part"],
            {(name,): int(name in missing) for name in part_names()},
        )
        free = free_bytes()
        yield _gauge(
            "disk_free_bytes",
            "Free space of the fullest disk that holds our data",
            [],
            {} if free is None else {(): free},
        )

    def _pull_figures(self, names: Mapping[object, str]) -> Iterator[Metric]:
        lag: dict[tuple[str, ...], float] = {}
        duration: dict[tuple[str, ...], float] = {}
        failures: dict[tuple[str, ...], float] = {}
        rows = PullSchedule.objects.values_list(
            "cluster_id", "stream", "due_at", "dispatched_at", "duration_ms", "failures"
        )
        for cluster_id, stream, due_at, sent_at, duration_ms, failed in rows:
            key = (names.get(cluster_id, str(cluster_id)), stream)
            if sent_at is None or age_seconds(sent_at.timestamp(), self._now) is not None:
                lag[key] = max(0.0, self._now - due_at.timestamp())
            failures[key] = float(failed)
            if duration_ms is not None:
                duration[key] = duration_ms / 1000
        labels = ["cluster", "stream"]
        yield _gauge(
            "pull_lag_seconds",
            "How long the next pull is overdue; absent if the last was sent in the future",
            labels,
            lag,
        )
        yield _gauge(
            "pull_duration_seconds", "The last pull, from start to commit", labels, duration
        )
        yield _gauge(
            "pull_consecutive_failures", "Failed pulls since the last good one", labels, failures
        )

    def _redis_figures(self, redis: Redis) -> Iterator[Metric]:
        ages = heartbeat_ages(self._now)
        yield _gauge(
            "heartbeat_age_seconds",
            "Seconds since a process last showed life",
            ["process"],
            {(name,): age for name, age in ages.items() if age is not None},
        )
        yield _gauge(
            "queue_length",
            "Tasks that wait",
            ["queue"],
            {(q,): _queue_length(redis, q) for q in QUEUES},
        )
        flush_refusals(redis)
        refused: dict[tuple[str, ...], float] = {
            key: float(number) for key, number in read_refusals(redis).items()
        }
        yield _counter("refused", "Refused by a budget, and whose share was used up",
                       ["budget", "by"], refused)  # fmt: skip
        yield from _hub_figures(read_hub_metrics(redis))


def _fleet_figures(overviews: list[ClusterOverview], now: datetime) -> Iterator[Metric]:
    totals = fleet_totals(overviews, now)
    yield _gauge(
        "clusters",
        "Clusters by health",
        ["state"],
        {(state,): float(count) for state, count in totals.states.items()},
    )
    up = sum(overview.tunnel.state == "up" for overview in overviews)
    yield _gauge("tunnels_up", "Clusters whose tunnel is up", [], {(): up})


def _cluster_figures(overviews: list[ClusterOverview]) -> Iterator[Metric]:
    labels = ["cluster", "cluster_id"]
    keys = [((overview.name, str(overview.id)), overview) for overview in overviews]
    yield _gauge(
        "cluster_tunnel_up",
        "1 if the cluster's tunnel is up, 0 if it is down; absent while that is not known",
        labels,
        {key: float(up) for key, overview in keys if (up := overview.tunnel.up) is not None},
    )
    yield _gauge(
        "cluster_data_age_seconds",
        "Age of the newest minute of data; absent before the first",
        labels,
        {
            key: overview.data_age_seconds
            for key, overview in keys
            if overview.data_age_seconds is not None
        },
    )
    yield _gauge(
        "cluster_health",
        "1 for the state that the cluster is in",
        [*labels, "state"],
        {(*key, overview.health.state): 1 for key, overview in keys},
    )


def _hub_figures(hubs: Mapping[str, Iterable[HubFigure]]) -> Iterator[Metric]:
    """Yield the hubs' counters, each labelled with its hub.

    Always untyped: hubs of two versions may differ, and a family has one type.
    """
    families: dict[str, Metric] = {}
    for hub, figures in sorted(hubs.items()):
        for figure in sorted(figures, key=_name_and_labels):
            sample = figure.sample
            name = f"opscenter_{sample.name}"
            text = figure.text or "A figure of the hub that it does not explain"
            family = families.setdefault(name, UntypedMetricFamily(name, text))
            family.add_sample(name, {"hub": hub, **sample.labels}, sample.value)
    yield from families.values()


def _name_and_labels(figure: HubFigure) -> tuple[str, list[tuple[str, str]]]:
    return figure.sample.name, sorted(figure.sample.labels.items())


def _queue_length(redis: Redis, queue: str) -> float:
    steps = settings.CELERY_BROKER_TRANSPORT_OPTIONS["priority_steps"]
    keys = [queue if not step else f"{queue}{_PRIORITY_SEPARATOR}{step}" for step in steps]
    return float(sum(redis.llen(key) for key in keys))


def _counter(
    name: str, text: str, labels: Iterable[str], values: Mapping[tuple[str, ...], float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"opscenter_{name}", text, labels=list(labels))
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family


def _gauge(
    name: str, text: str, labels: Iterable[str], values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"opscenter_{name}", text, labels=list(labels))
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
