"""A cluster with half an hour of numbers, and its pages."""

from __future__ import annotations

import time

from clusters.models import Cluster
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Window
from metrics.stores import get_store
from metrics.stores.writer import Batch

EVIL = "<script>alert(1)</script>\"'<img src=x onerror=alert(1)>"

FORMULA = "=cmd|'/C calc'!A0"


def cells(kind: str, **values: int):
    made = {name: Cell(2, value * 2, value - 1, value + 1) for name, value in values.items()}
    return tuple(made.get(name) for name in FIELD_NAMES[kind])


def measure(
    cluster: Cluster,
    *,
    node: str = "node-1",
    pod=("shop", "cart-1"),
    minutes: int = 30,
    pod_cpu: int = 200,
    shift: int = 0,
):
    """Store half an hour that ends now, the ten minutes before it lost.

    ``shift``: seconds by which the cluster's clock is ahead.
    """
    end = int(time.time()) // 60 * 60 + shift
    start = end - minutes * 60
    nodes, pods = SeriesKey("node", "", node), SeriesKey("pod", *pod)
    disk = SeriesKey("filesystem", node, "/")
    rows = []
    for ts in range(start, end, 60):
        rows += [
            MinuteRow(ts, nodes, cells("node", cpu_mc=900, cpu_cap_mc=4000, mem_ws=3 << 30,
                                       mem_cap=8 << 30, ready=1, pods=1, inodes_total=100,
                                       inodes_free=40)),
            MinuteRow(ts, disk, cells("filesystem", used=90, cap=100)),
            MinuteRow(ts, pods, cells("pod", cpu_mc=pod_cpu, mem_ws=1 << 20)),
        ]  # fmt: skip
    infos = [SeriesInfo(pods, node, {"workload": EVIL[:60]})]
    windows = [
        Window(start - 600, start, "lost", 0, 10, 2, "agent_stopped", EVIL, None),
        Window(start, end, "done", minutes, minutes, 1, "", "", None),
    ]
    get_store().write(cluster.pk, "agent", Batch(rows, infos, windows, end, end))


def page(client, cluster, query: str = "") -> str:
    response = client.get(f"/clusters/{cluster.pk}/?{query}")
    assert response.status_code == 200
    return response.content.decode()
