"""The fleet as Prometheus sees it: cAdvisor's, kube-state-metrics' and node-exporter's numbers.

``python -m tests.bench.exporter PORT CLUSTERS SECONDS`` serves ``/metrics/0``, ``/metrics/1``, ...;
every ``SECONDS`` they step to the next minute of :mod:`tests.bench.workload`. Each step's text is
made once for all requests. :func:`write_history` writes the same numbers as OpenMetrics.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import TextIO

from aiohttp import web

from tests.bench.workload import Cluster, Numbers, make_fleet

STEPS = 40  # minutes that there are; then it stays at the last
NODES = 10
_POD = (
    # metric, whether it is a counter of the field's rate, labels besides namespace and pod
    ("container_cpu_usage_seconds_total", 0.001, 'container="main",cpu="total"'),
    ("container_memory_working_set_bytes", 0, 'container="main"'),
    ("container_memory_rss", 0, 'container="main"'),
    ("container_fs_usage_bytes", 0, 'container="main",device="/dev/vda1"'),
    ("container_network_receive_bytes_total", 1, 'interface="eth0"'),
    ("container_network_transmit_bytes_total", 1, 'interface="eth0"'),
    ("kube_pod_container_status_restarts_total", 0, 'container="main"'),
)
_NODE: dict[str, tuple[str, float, str]] = {
    "cpu_mc": ("node_cpu_seconds_total", 0.001, 'cpu="0",mode="user"'),
    "cpu_cap_mc": ("kube_node_status_capacity", 0, 'resource="cpu"'),
    "mem_ws": ("node_memory_MemAvailable_bytes", 0, ""),
    "mem_cap": ("node_memory_MemTotal_bytes", 0, ""),
    "fs_used": ("node_filesystem_free_bytes", 0, 'device="/dev/vda1",fstype="ext4",mountpoint="/"'),
    "fs_cap": ("node_filesystem_size_bytes", 0, 'device="/dev/vda1",fstype="ext4",mountpoint="/"'),
    "inodes_total": ("node_filesystem_files", 0, 'device="/dev/vda1",fstype="ext4",mountpoint="/"'),
    "inodes_free": (
        "node_filesystem_files_free", 0, 'device="/dev/vda1",fstype="ext4",mountpoint="/"',
    ),
    "net_rx_bps": ("node_network_receive_bytes_total", 1, 'device="eth0"'),
    "net_tx_bps": ("node_network_transmit_bytes_total", 1, 'device="eth0"'),
    "load1_m": ("node_load1", 0, ""),
    "uptime_s": ("node_boot_time_seconds", 0, ""),
    "ready": ("kube_node_status_condition", 0, 'condition="Ready",status="true"'),
}  # fmt: skip


def shapes(cluster: Cluster) -> Iterator[tuple[str, str, list[float]]]:
    """Yield (metric, labels, values): what a cluster's exporters say, minute after minute."""
    for one in cluster.series:
        if one.key.kind == "pod":
            yield from _pod(one)
        else:
            yield from _node(one)


def write_history(cluster: Cluster, file: TextIO) -> int:
    """Write all of a cluster's minutes as OpenMetrics; return how many samples that makes."""
    by_metric: dict[str, list[tuple[str, list[float]]]] = {}
    for metric, labels, values in shapes(cluster):
        by_metric.setdefault(metric, []).append((labels, values))
    samples = 0
    for metric, parts in by_metric.items():
        for labels, values in parts:
            for at, value in enumerate(values):
                file.write(f"{metric}{{{labels}}} {value!r} {cluster.start + 60 * at}\n")
            samples += len(values)
    file.write("# EOF\n")
    return samples


def _pod(one: Numbers) -> Iterator[tuple[str, str, list[float]]]:
    names = f'namespace="{one.key.ns}",pod="{one.key.name}"'
    for (metric, factor, more), column in zip(_POD, one.columns, strict=True):
        if column is not None:
            place = "" if metric.startswith("kube_") else f',instance="{one.node}"'
            yield metric, f"{names},{more}{place}", _values(column, factor)
    yield "kube_pod_info", f'{names},node="{one.node}"', [1.0] * len(one.columns[0] or ())


def _node(one: Numbers) -> Iterator[tuple[str, str, list[float]]]:
    for field, column in one.fields():
        if field in _NODE:
            metric, factor, more = _NODE[field]
            place = "node" if metric.startswith("kube_") else "instance"
            labels = f'{place}="{one.key.name}"'
            values = _values(column, factor)
            yield metric, f"{labels},{more}" if more else labels, values


def _values(column: array[int], factor: float) -> list[float]:
    """Return a gauge as it is, and a counter that rises by a minute of the field's rate."""
    if not factor:
        return [float(value) for value in column]
    return [round(total, 3) for total in accumulate(60 * factor * value for value in column)]


class Exporters:
    """The texts of all clusters at their steps."""

    def __init__(self, clusters: int, seconds: float) -> None:
        self._fleet = [
            list(shapes(cluster)) for cluster in make_fleet(clusters, STEPS, 0, nodes=NODES)
        ]
        self._seconds = seconds
        self._began = time.monotonic()
        self._texts: dict[tuple[int, int], bytes] = {}

    async def serve(self, request: web.Request) -> web.Response:
        """Answer a scrape."""
        number = int(request.match_info["number"])
        step = min(STEPS - 1, int((time.monotonic() - self._began) / self._seconds))
        if (number, step) not in self._texts:
            self._texts.pop((number, step - 2), None)
            lines = (f"{m}{{{labels}}} {v[step]!r}\n" for m, labels, v in self._fleet[number])
            self._texts[number, step] = "".join(lines).encode()
        return web.Response(body=self._texts[number, step], content_type="text/plain")


async def _serve(port: int, clusters: int, seconds: float) -> None:
    exporters = Exporters(clusters, seconds)
    app = web.Application()
    app.router.add_get("/metrics/{number}", exporters.serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
