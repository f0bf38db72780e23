"""Clusters that answer with every kind of garbage at once cost themselves, and nobody else."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest

from metrics.series.rows import SeriesKey
from metrics.stores.sqlite.store import SqliteStore
from tests.centre import wait_until
from tests.e2e.centreapi import moment
from tests.e2e.scene.conftest import GARBAGE, HEALTHY, MAX_BYTES, PODS_PER_NODE, SEED, THREADS
from tests.e2e.stored import closed_minute, differences
from tests.fleet.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SECONDS = 80  # of garbage; every bad cluster is asked three times in it
OLDEST_SECONDS = 100  # a minute, its settling, the interval, and a busy machine


def test_garbage_is_refused_with_its_reason_and_touches_no_other_cluster(scene):
    everyone = range(HEALTHY + 1 + len(GARBAGE))
    wait_until(lambda: all(scene.named(i)["data_as_of"] for i in everyone), "all report", 150)
    wait_until(
        lambda: not any(scene.api.windows(scene.named(i)["id"], "gap") for i in everyone),
        "the past is in",
        150,
    )
    worker = scene.centre.children()["worker"]
    before_bytes = resident_bytes(worker)

    began = closed_minute()
    faults = {HEALTHY: {"hostile_names": True}}
    for index, kind in enumerate(GARBAGE, HEALTHY + 1):
        faults[index] = {"slow_seconds": 60} if kind == "slow" else {"garbage": kind}
    scene.set_faults(faults)
    peak_bytes = before_bytes
    oldest_seconds = 0.0
    until = time.monotonic() + SECONDS
    polled_at = 0.0
    while time.monotonic() < until:
        peak_bytes = max(peak_bytes, resident_bytes(worker))
        if time.monotonic() > polled_at + 2:
            polled_at = time.monotonic()
            fleet = scene.api.clusters()
            for index in range(HEALTHY):
                seen = fleet[scene.fleet_names[index]]
                assert seen["health"]["state"] == "ok", seen
                oldest_seconds = max(oldest_seconds, time.time() - moment(seen["data_as_of"]))
        time.sleep(0.05)
    print(f"worker {before_bytes >> 20} MB, at most {peak_bytes >> 20} MB;"
          f" oldest healthy data {oldest_seconds:.0f} s")  # fmt: skip

    assert peak_bytes - before_bytes <= MAX_BYTES * THREADS
    assert oldest_seconds < OLDEST_SECONDS
    assert scene.centre.children()["worker"] == worker
    for index, (kind, (code, words)) in enumerate(GARBAGE.items(), HEALTHY + 1):
        pull = scene.api.cluster(scene.named(index)["id"])["pull"]
        assert (kind, pull["error_code"]) == (kind, code), pull
        assert words in pull["error"], (kind, pull)
        assert pull["failures"] >= 2

    ended = closed_minute()
    for index in range(HEALTHY):
        wait_until(lambda i=index: moment(scene.named(i)["data_as_of"]) >= ended, "the end is in")
    store = SqliteStore(scene.centre.data_dir / "metrics.sqlite3")
    wrong = []
    for index in range(HEALTHY):
        world = World.make(SEED, index, pods_per_node=PODS_PER_NODE, churn=index % 10 == 0)
        cluster = UUID(scene.named(index)["id"])
        wrong += differences(store, cluster, world, began - 600, ended)
    assert wrong == []
    late = closed_minute() + 60 + 86_400 * 800
    for index, kind in enumerate(GARBAGE, HEALTHY + 1):
        cluster = UUID(scene.named(index)["id"])
        key = SeriesKey("cluster", "", "")
        stored = store.read(cluster, key, "nodes_total", "1m", began + 60, late).t
        assert (kind, stored) == (kind, [])
    assert store.check() == "ok"
    store.close()


def resident_bytes(pid: int) -> int:
    """Return VmRSS of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no VmRSS")
