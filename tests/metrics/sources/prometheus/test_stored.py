"""From a real Prometheus through real pulls into the store: every stored number, in every tier."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from clusters.models import Cluster
from metrics.connections.config import read_config, save_source
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from metrics.series.catalog import CATALOG, FIELD_NAMES, TIERS
from metrics.series.rows import SeriesKey
from metrics.stores import get_store
from tests.factories import ClusterFactory
from tests.metrics.conftest import ledger_of
from tests.metrics.sources.prometheus.seeds import MINUTES, OUTAGE, Seeds
from tests.metrics.sources.prometheus.world import MINUTE, Expected, World, running_prometheus
from tests.servers.client import DirectClient

CLUSTER = SeriesKey("cluster", "", "")
Bucket = tuple[int, float, float, float]  # minutes, total, lowest, highest


@pytest.fixture
def site(db, store, redis_server, admin) -> Cluster:
    cluster = ClusterFactory(name="north-1", current__tunnel_up=True)
    save_source(cluster, read_config("prometheus"), actor=admin)
    return cluster


def with_cluster(expected: Expected, start: int) -> Expected:
    """Add the cluster's minutes, from those of its nodes."""
    result = dict(expected)
    for minute in range(start, start + MINUTES * MINUTE, MINUTE):
        nodes = [v for (ts, key), v in expected.items() if ts == minute and key.kind == "node"]
        if not nodes:
            continue
        values: dict[str, float] = {"nodes_total": len(nodes)}
        for field in CATALOG["cluster"]:
            name = "ready" if field.name == "nodes_ready" else field.name
            there = [node[name] for node in nodes if name in node]
            if there:
                combine = {"min": min, "max": max}.get(field.across_nodes or "sum", sum)
                values[field.name] = combine(there)
        result[minute, CLUSTER] = values
    return result


def buckets(expected: Expected, key: SeriesKey, field: str, width: int) -> dict[int, Bucket]:
    """Return a field's buckets by plain arithmetic over its true minutes."""
    result: dict[int, Bucket] = {}
    for (ts, known), values in sorted(expected.items()):
        if known == key and field in values:
            value = values[field]
            n, total, low, high = result.get(ts - ts % width, (0, 0, value, value))
            result[ts - ts % width] = (n + 1, total + value, min(low, value), max(high, value))
    return result


def wrong_buckets(
    cluster: Cluster, expected: Expected, keys: Iterable[SeriesKey], world: World
) -> tuple[int, list[str]]:
    """Return how many buckets were compared, and a line for each that is not the true one."""
    store, compared, lines = get_store(), 0, []
    end = world.start + MINUTES * MINUTE
    for key in keys:
        for field in FIELD_NAMES[key.kind]:
            for tier, width in TIERS.items():
                first = world.start - world.start % width
                have = store.read(cluster.pk, key, field, tier, first, end)
                found = dict(
                    zip(
                        have.t,
                        zip(have.n, have.total, have.low, have.high, strict=True),
                        strict=True,
                    )
                )
                want = buckets(expected, key, field, width)
                compared += len(want)
                lines += [
                    f"{key} {field} {tier} {t}: {found.get(t)} instead of {want.get(t)}"
                    for t in found.keys() | want.keys()
                    if not _same(found.get(t), want.get(t))
                ]
    return compared, lines


def _same(found: tuple[int, ...] | None, true: Bucket | None) -> bool:
    if found is None or true is None or found[0] != true[0]:
        return False
    # Each minute is rounded to a whole number, of a cluster each node's.
    return all(
        abs(a - b) <= 0.5 * parts + 1e-6 * max(1.0, abs(b) * 1e-6)
        for a, b, parts in zip(found[1:], true[1:], (2 * true[0], 2, 2), strict=True)
    )


@pytest.mark.parametrize("name", ["modern", "legacy", "machines"])
def test_every_stored_number_is_the_true_one(
    name: str, site: Cluster, known: Seeds, seeded_prometheus: int
):
    world, oracle = known.oracle(name, running_prometheus())
    now = world.start + MINUTES * MINUTE + 120

    def connect(_: Cluster) -> DirectClient:
        return DirectClient(seeded_prometheus)

    assert pull_cluster(site.pk, now, connect=connect).outcome == "ok"
    for _ in range(20):
        result = backfill_cluster(site.pk, now + 1, connect=connect)
        if not result.open:
            break
    expected = with_cluster(
        oracle.expected(world.start, world.start + MINUTES * MINUTE), world.start
    )
    keys = {key for _, key in expected}
    assert {key.kind for key in keys} >= {"cluster", "node", "filesystem"}
    compared, lines = wrong_buckets(site, expected, keys, world)
    assert lines == []
    assert compared > 3000
    lost = [line for line in ledger_of(site) if line.state == "lost" and line.start >= world.start]
    dark = sum(line.expected - line.got for line in lost if line.end <= now - 120)
    assert dark == (OUTAGE[1] - OUTAGE[0] - 1 if name == "modern" else 0)
