"""The fleet page at 100 and at 2,000 clusters: server time and queries.

The floor is what no page can go below: the same rows read by one query and dumped as JSON.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from clusters.models import Cluster, ClusterStatus, Customer
from tests.bench.report import Measure, Report, seconds_of

SIZES = (100, 2000)
ROUNDS = 9
_PAGES = {"fleet page": "/", "API clusters": "/api/v1/clusters/?page_size=100"}


def run(report: Report) -> None:
    """Measure every page at every size."""
    user = User.objects.create_superuser("bench", password="bench only")
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(user)
    for size in SIZES:
        _fill(size)
        for name, url in _PAGES.items():
            _measure(report, client, f"{name}, {size:,} clusters", url)


def _measure(report: Report, client: Client, name: str, url: str) -> None:
    for _ in range(2):  # templates are compiled and caches filled
        _get(client, url)
    ours, floor = [], []
    for _ in range(ROUNDS):
        ours.append(1000 * seconds_of(lambda: _get(client, url)))
        floor.append(1000 * seconds_of(_floor))
    note = "floor: the same rows by one query, as JSON"
    report.compare("pages", name, "ms", ours, "floor", floor, note)
    with CaptureQueriesContext(connection) as queries:
        body = _get(client, url)
    report.add(Measure("pages", f"{name}: queries", "queries", len(queries)))
    report.add(Measure("pages", f"{name}: size", "kB", len(body) / 1000))


def _get(client: Client, url: str) -> bytes:
    response = client.get(url)
    if response.status_code != 200:
        msg = f"{url} answered {response.status_code}"
        raise RuntimeError(msg)
    return bytes(response.content)


def _floor() -> str:
    rows = Cluster.objects.select_related("current").values(
        "id", "name", "labels", "current__state", "current__cpu_history", "current__data_as_of"
    )
    return json.dumps(list(rows), default=str)


def _fill(size: int) -> None:
    """Make the fleet ``size`` clusters large: most of them ok, some in each other state."""
    rng = random.Random(size)
    now = datetime.now(UTC)
    customers = list(Customer.objects.all()) or [
        Customer.objects.create(name=f"Customer {n}") for n in range(27)
    ]
    have = Cluster.objects.count()
    clusters = [
        Cluster(
            name=f"bench-{n:05}", customer=rng.choice(customers), status=Cluster.Status.ACTIVE,
            enrolled_at=now, labels={"region": rng.choice("abcdefgh"), "tier": "prod"},
        )
        for n in range(have, size)
    ]  # fmt: skip
    Cluster.objects.bulk_create(clusters)
    ClusterStatus.objects.bulk_create([_status(cluster, rng, now) for cluster in clusters])


def _status(cluster: Cluster, rng: random.Random, now: datetime) -> ClusterStatus:
    nodes = rng.randint(3, 20)
    lost = rng.random() < 0.05
    as_of = now - timedelta(hours=3 if lost else 0)
    columns: dict[str, Any] = {
        "state": "ok", "since": now - timedelta(days=3), "tunnel_up": not lost,
        "tunnel_since": as_of, "tunnel_seen_at": as_of, "last_pull_at": as_of,
        "data_as_of": as_of, "nodes_ready": nodes - (rng.random() < 0.05), "nodes_total": nodes,
        "pods": nodes * 30, "cpu_mc": nodes * rng.randint(500, 6000), "cpu_cap_mc": nodes * 8000,
        "mem_ws": nodes * rng.randint(4, 28) << 30, "mem_cap": nodes << 35,
        "fs_worst_ratio": rng.uniform(0.2, 0.85), "fs_worst_name": "node-1 /var",
        "cpu_history": [rng.randint(100, 900) for _ in range(60)],
    }  # fmt: skip
    return ClusterStatus(cluster=cluster, **columns)
