"""Clusters with a scripted source, and outages of them."""

from __future__ import annotations

from clusters.models import Cluster, ClusterStatus
from metrics.connections.config import read_config, save_source
from metrics.models import PullSchedule
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from metrics.pulling.stream import CLUSTER_KEY
from metrics.series.rows import SeriesKey
from metrics.stores import get_store
from tests.factories import ClusterFactory
from tests.metrics.conftest import ledger_of
from tests.metrics.pulling.scripted import (
    DAY,
    NODES,
    nowhere,
    value,
)

HOUR = 3600

T0 = 1_800_000_000 - 1_800_000_000 % DAY


def make_site(actor, name: str = "north-1") -> Cluster:
    cluster = ClusterFactory(name=name, current__tunnel_up=True)
    save_source(cluster, read_config("influxdb"), actor=actor)
    return cluster


def pull(cluster: Cluster, now: float):
    return pull_cluster(cluster.pk, now, connect=nowhere)


def fill(cluster: Cluster, now: float, runs: int = 50):
    """Fill until no gap is open; return all that was asked for."""
    asked = []
    for _ in range(runs):
        result = backfill_cluster(cluster.pk, now, connect=nowhere)
        asked += result.requested
        if not result.open:
            break
    return asked


def tunnel(cluster: Cluster, *, up: bool) -> None:
    ClusterStatus.objects.filter(cluster=cluster).update(tunnel_up=up)


def schedule_of(cluster: Cluster) -> PullSchedule:
    return PullSchedule.objects.get(cluster=cluster)


def assert_neither_hole_nor_double(cluster: Cluster, start: int, end: int) -> None:
    """Compare every hour of [start, end) with what the source had, minute for minute."""
    store = get_store()
    for key, names in [(CLUSTER_KEY, NODES), *((SeriesKey("node", "", n), (n,)) for n in NODES)]:
        columns = store.read(cluster.pk, key, "cpu_mc", "1h", start, end)
        assert columns.t == list(range(start, end, HOUR)), key
        assert set(columns.n) == {60}, [
            (t - T0, n) for t, n in zip(columns.t, columns.n, strict=True) if n != 60
        ]
        for t, total in zip(columns.t, columns.total, strict=True):
            assert total == 60 * sum(value(name, t) for name in names)
    windows = [
        window for window in ledger_of(cluster) if window.start >= start and window.end <= end
    ]
    assert {window.state for window in windows} == {"done"}
    assert sum(window.expected for window in windows) == (end - start) // 60
