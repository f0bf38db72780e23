"""The cost of querying a cluster's own Prometheus, as the ``prometheus`` source does.

A real Prometheus has an hour of one cluster of 10 nodes and 300 pods, as cAdvisor,
kube-state-metrics and node-exporter report them. Windows of ten minutes go from it into a SQLite
store. Our CPU is this process', theirs is what the kernel says of the server.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path

from metrics.series.source_answer import SourceAnswer
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.prometheus.source import PrometheusSource
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.bench.exporter import NODES, write_history
from tests.bench.openssh import free_port
from tests.bench.processes import cpu_seconds, find, running
from tests.bench.report import Measure, Report
from tests.bench.workload import Cluster, make_fleet
from tests.servers.client import DirectClient

MINUTES = 60
STEP = 10


def run(report: Report, area: str) -> None:
    """Query all of it, window by window.

    Raises:
        MissingServerError: if Prometheus is not installed.
    """
    binary, tool = find("prometheus", "prometheus"), find("promtool", "prometheus")
    start = int(time.time()) // 3600 * 3600 - MINUTES * 60 - 3600
    [cluster] = make_fleet(1, MINUTES, start, nodes=NODES)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        text = directory / "history.om"
        with text.open("w", encoding="utf-8") as file:
            write_history(cluster, file)
        subprocess.run(
            [tool, "tsdb", "create-blocks-from", "openmetrics", "-q", str(text),
             str(directory / "data")], check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (directory / "empty.yml").write_text("global: {}\n")
        port = free_port()
        command = [binary, f"--config.file={directory / 'empty.yml'}",
                   f"--storage.tsdb.path={directory / 'data'}",
                   f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        ready = f"http://127.0.0.1:{port}/-/ready"
        with running(command, ready, directory / "log") as pid:
            _measure(report, area, cluster, port, pid, directory)


def _measure(
    report: Report, area: str, cluster: Cluster, port: int, pid: int, directory: Path
) -> None:
    store = SqliteStore(directory / "metrics.sqlite3")
    begin, ours, theirs = time.perf_counter(), time.process_time(), cpu_seconds(pid)
    rows = values = 0
    for first in range(STEP, MINUTES, STEP):  # rates need the minutes before
        since = cluster.start + 60 * first
        answer = asyncio.run(_fetch(port, since, since + 60 * STEP))
        store.write(cluster.id, "agent", Batch(answer.rows, answer.infos))
        rows += len(answer.rows)
        values += sum(cell is not None for row in answer.rows for cell in row.cells)
    wall, ours = time.perf_counter() - begin, time.process_time() - ours
    theirs = cpu_seconds(pid) - theirs
    store.close()
    about = f"{rows:,} rows, {values:,} values, {STEP} minutes a time; query to store"
    name = "ours, from a cluster's own Prometheus"
    report.add(Measure(area, f"{name}: CPU", "s/million", 1e6 * ours / values, note=about))
    report.add(Measure(area, f"{name}: CPU of that Prometheus", "s/million", 1e6 * theirs / values))
    report.add(Measure(area, f"{name}: speed", "values/s", values / wall, note="one thread"))
    report.add(Measure(area, "M11 Prometheus' JSON to stored rows", "us/row", 1e6 * ours / rows))


async def _fetch(port: int, start: int, end: int) -> SourceAnswer:
    async with DirectClient(port) as client:
        with ParseSlot("live") as slot:
            return await PrometheusSource().fetch(client, start, end, now=time.time(), slot=slot)
