"""``kill -9`` of a worker process in the middle of pulls: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from uuid import UUID

import redis

from clusters.models import Cluster
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rollups import rounded_mean
from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM
from metrics.stores.sqlite.store import SqliteStore
from tests.centre import ROOT
from tests.fleet.answers import SimulatedAgent
from tests.fleet.world import World

T0 = 1_800_000_000
MINUTES = 150
KILLS = 4
_FREE = """
from metrics.models.influxdb_store import MetricCluster
MetricCluster.objects.update(writer_until=0)
"""


def store_variables(settings) -> dict[str, str]:
    """Return what names this run's InfluxDB to another process; {} for SQLite."""
    if settings.METRICS_STORE != "influxdb":
        return {}
    names = ("METRICS_STORE", "INFLUXDB_URL", "INFLUXDB_ORG", "INFLUXDB_TOKEN")
    return {name: getattr(settings, name) for name in (*names, "INFLUXDB_BUCKET_PREFIX")}


def run(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_killed_workers_lose_and_double_nothing(stand, redis_server, settings, tmp_path):
    environment = os.environ | {
        "OPSCENTER_DATA_DIR": str(tmp_path),
        "REDIS_URL": redis_server,
        "OPSCENTER_GATEWAY_URL": settings.GATEWAY_URL,
        **store_variables(settings),
    }
    environment.pop("DATABASE_URL", None)
    run(environment, "manage.py", "migrate", "-v0")
    made = run(
        environment, "manage.py", "shell", "-v0", "-c",
        "from tests.factories import ClusterFactory\n"
        "print(ClusterFactory(name='north-1', current__tunnel_up=True).pk)",
    )  # fmt: skip
    cluster = UUID(made.split()[-1])
    # The gateway's token is made with the other installation's key; the stand does not check it.
    clock = T0 + MINUTES * 60 + 30
    world = World.make(9, 1, nodes=2, pods_per_node=10)
    stand.serve(Cluster(pk=cluster), SimulatedAgent(world, born=T0, clock=lambda: clock).make_app())
    last = T0 + MINUTES * 60
    command = [
        sys.executable,
        "-m",
        "tests.metrics.pulling.pull_worker",
        str(cluster),
        str(T0 + 60),
    ]
    client, rng, pulled = redis.Redis.from_url(redis_server), random.Random(1), 0
    for life in range(KILLS + 1):
        with subprocess.Popen(
            [*command, str(last)], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as worker:
            stop_after = pulled + rng.randint(5, 25)
            assert worker.stdout is not None
            for line in worker.stdout:
                assert line.split()[1] == "ok"
                pulled += 1
                if life < KILLS and pulled >= stop_after:
                    worker.kill()
                    break
        for key in client.scan_iter("opscenter:lease:*"):
            client.delete(key)  # as if their time had run out
        if settings.METRICS_STORE == "influxdb":
            run(environment, "manage.py", "shell", "-v0", "-c", _FREE)
    assert worker.returncode == 0
    if settings.METRICS_STORE == "influxdb":
        run(environment, "manage.py", "copy_metrics", "--to", "sqlite")

    store = SqliteStore(tmp_path / "metrics.sqlite3")
    position = store.position(cluster, STREAM)
    assert (position.watermark, position.head) == (last, last)
    lines = store.windows(cluster, STREAM, 0, 1 << 40)
    assert [(w.start, w.end, w.state, w.got) for w in lines] == [
        (start, start + 600, "done", 10) for start in range(T0, last, 600)
    ]
    for minute in range(T0 // 60, last // 60):
        for node, cells in world.node_rows(minute):
            for field in FIELD_NAMES["node"]:
                got = store.read(
                    cluster, SeriesKey("node", "", node.name), field, "1m", minute * 60,
                    minute * 60 + 60,
                )  # fmt: skip
                cell = cells.get(field)
                assert list(zip(got.n, got.total, got.low, got.high, strict=True)) == (
                    [] if cell is None else [(1, rounded_mean(cell[1], cell[0]), *cell[2:])]
                )
    assert store.check() == "ok"
    store.close()
