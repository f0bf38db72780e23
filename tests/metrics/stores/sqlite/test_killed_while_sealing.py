"""``kill -9`` of a worker that pulls from a real Prometheus and seals hours: all is as without."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from uuid import UUID

import pytest
import redis

from clusters.models import Cluster
from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.windows import STREAM, Window
from metrics.stores.sqlite.store import SqliteStore
from tests.centre import ROOT
from tests.servers.prometheus import Series, prometheus

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.sqlite_only(reason="InfluxDB compacts by itself, and nothing is sealed"),
]

HOURS = 5
KILLS = {"pull": 3, "seal": 3}
_MAKE = """
from tests.factories import ClusterFactory
from metrics.connections.config import read_config, save_source
for name in ("killed", "whole"):
    cluster = ClusterFactory(name=name, current__tunnel_up=True)
    save_source(cluster, read_config("prometheus"), actor="test")
    print(cluster.pk)
"""


def machines(start: int, end: int) -> Iterator[Series]:
    """Two machines without Kubernetes, as node-exporter tells of them, scraped once a minute."""
    rng = random.Random(5)
    times = range(start - 600, end + 60, 60)
    for host in ("one", "two"):
        labels = {"job": "node", "instance": f"{host}:9100"}

        def series(name: str, value, labels=labels, **more: str) -> Series:
            return name, {**labels, **more}, [(float(t), float(value(t))) for t in times]

        yield series("up", lambda _: 1)
        yield series("node_uname_info", lambda _: 1, nodename=host, machine="x86_64")
        yield series("node_boot_time_seconds", lambda _: start - 86_400)
        yield series("node_load1", lambda _: rng.randrange(400) / 100)
        yield series("node_memory_MemTotal_bytes", lambda _: 8 << 30)
        yield series("node_memory_MemAvailable_bytes", lambda _: rng.randrange(1 << 20) * 4096)
        for mode, share in (("user", 0.3), ("idle", 0.7)):
            yield series(
                "node_cpu_seconds_total", lambda t, share=share: share * (t - start + 7200),
                cpu="0", mode=mode,
            )  # fmt: skip


def test_workers_killed_while_they_pull_and_seal_lose_and_double_nothing(
    stand, redis_server, settings, tmp_path
):
    end = int(time.time()) // 3600 * 3600 - 3600
    start = end - HOURS * 3600
    environment = os.environ | {
        "OPSCENTER_DATA_DIR": str(tmp_path),
        "REDIS_URL": redis_server,
        "OPSCENTER_GATEWAY_URL": settings.GATEWAY_URL,
    }
    environment.pop("DATABASE_URL", None)
    for command in (["migrate", "-v0"], ["shell", "-v0", "-c", _MAKE]):
        made = subprocess.run(
            [sys.executable, "manage.py", *command], env=environment, cwd=ROOT, check=True,
            capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip
    killed, whole = (UUID(line) for line in made.split()[-2:])
    (tmp_path / "prometheus").mkdir()
    with prometheus(tmp_path / "prometheus", series=machines(start, end)) as port:
        for cluster in (killed, whole):
            stand.ports[Cluster(pk=cluster).pk] = port
        client = redis.Redis.from_url(redis_server)
        rng, left = random.Random(1), dict(KILLS)
        while sum(left.values()):
            step = max(left, key=lambda name: left[name])
            _kill(environment, killed, (start, end), step, rng)
            left[step] -= 1
            for key in client.scan_iter("opscenter:lease:*"):
                client.delete(key)  # as if their time had run out
        for cluster in (killed, whole):
            done = subprocess.run(
                _command(cluster, start, end), env=environment, cwd=ROOT, check=True,
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.stdout.endswith("done\n")
    store = SqliteStore(tmp_path / "metrics.sqlite3")
    assert store.check() == "ok"
    assert _content(store, killed, start, end) == _content(store, whole, start, end)
    assert _ledger(store, killed) == _ledger(store, whole)
    rows, _ = store.counts(whole, "node", "1m", start, end)
    assert rows >= 2 * (HOURS * 60 - 10)
    store.close()
    with sqlite3.connect(tmp_path / "metrics.sqlite3") as connection:
        [(chunks,)] = connection.execute("SELECT count(*) FROM chunk WHERE NOT damaged")
    assert chunks > 0


def _command(cluster: UUID, start: int, end: int) -> list[str]:
    module = "tests.metrics.stores.sqlite.sealing_worker"
    return [sys.executable, "-m", module, str(cluster), str(start), str(end)]


def _kill(
    environment: dict[str, str], cluster: UUID, span: tuple[int, int], step: str, rng: random.Random
) -> None:
    """Run a worker for some steps, then kill it a moment after it began one of a kind."""
    seen, after = 0, rng.randint(2, 5)
    with subprocess.Popen(
        _command(cluster, *span), env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            assert line != "done\n", "it ended before it was killed"
            seen += line.startswith(step)
            if seen == after:
                time.sleep(rng.uniform(0, 0.05))
                worker.kill()
                break
    assert worker.returncode == -9


def _content(store: SqliteStore, cluster: UUID, start: int, end: int) -> dict[object, object]:
    found: dict[object, object] = {
        (kind, tier): store.counts(cluster, kind, tier, start, end)
        for kind in FIELD_NAMES
        for tier in TIERS
    }
    for kind in FIELD_NAMES:
        found[kind] = sorted(store.last(cluster, kind), key=lambda row: row.key)
    found["position"] = store.position(cluster, STREAM)
    return found


def _ledger(store: SqliteStore, cluster: UUID) -> list[tuple[int, int, str, int, int]]:
    lines: list[Window] = store.windows(cluster, STREAM, 0, 1 << 40)
    return [(w.start, w.end, w.state, w.got, w.expected) for w in lines]
