"""Pull to store: 100 clusters x 10 nodes x 300 pods, one point a minute, beside the floor.

Once with a pull a minute, as a live fleet is pulled, and once with ten minutes a pull, as after a
short outage: the fixed cost of a pull is then shared by ten times the values.

The floor is what no puller can go below: the same bytes fetched by bare aiohttp over connections
that stay open, and parsed by orjson. Ours is :func:`metrics.pulling.pull.pull_cluster` in as many
threads as the worker has: leases, ledger, store with all rollups, status and events. It is measured
straight to the sources' ports and through the real hub with a real tunnel for each cluster. Once
more the pulls are those of two worker processes that share one queue, as with
OPSCENTER_WORKER_PROCESSES=2 (:mod:`tests.bench.pull_worker`); the store always has eight shards.
Each round is one more minute, or ten, of the fleet. CPU seconds are those of the processes that
pull, and the hub's where it takes part; the sources run in a process of their own and answer from
memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import orjson
from django.conf import settings
from django.db import close_old_connections, connections

from clusters.models import Cluster, ClusterStatus
from metrics.connections.connect import Connect, by_tunnel
from metrics.pulling import ledger_rules
from metrics.pulling.pull import pull_cluster
from metrics.series.windows import BUCKET, MINUTE, STREAM, floor_bucket, floor_minute
from metrics.sources.base import JsonClient
from metrics.stores import close_stores, get_store
from opscenter.celery import collect_rarely
from opscenter.core.heartbeats import redis_client
from tests.bench.hub import running_hub
from tests.bench.processes import cpu_seconds
from tests.bench.pull_worker import WAITING, sharded_store
from tests.bench.report import Measure, Report, cpu_seconds_of, seconds_of

AREA = "pull"
CLUSTERS = 100
ROUNDS = 3
WAIT_SECONDS = 120
_FLOOR = "bare aiohttp + orjson"
_WORKERS = 2
_DIRECT, _TUNNEL, _PROCESSES = "direct", "by tunnel", f"by tunnel, {_WORKERS} processes"
_WAYS = (_DIRECT, _TUNNEL, _PROCESSES)
_STEPS = {1: "1 min", 10: "10 min"}  # minutes that a pull brings


@dataclass
class Far:
    """The process with the sources: where each cluster answers."""

    control: int
    ports: dict[UUID, int]
    born: int
    process: int


@dataclass
class Figures:
    """Seconds of every round of one path; the floor's are of the same rounds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    floor_wall: list[float] = field(default_factory=list)
    floor_cpu: list[float] = field(default_factory=list)
    hub_cpu: list[float] = field(default_factory=list)
    far_cpu: list[float] = field(default_factory=list)
    rows: int = 0
    values: int = 0


def run(report: Report) -> None:
    """Measure all paths, their rounds interleaved."""
    born = floor_bucket(time.time()) - 3 * BUCKET
    path = Path(settings.DATA_DIR) / "pull" / "metrics.sqlite3"
    collect_rarely()
    with (
        sharded_store(path),
        running_hub() as hub,
        _far_end(born) as far,
        _workers(path) as workers,
        ThreadPoolExecutor(settings.WORKER_THREADS) as threads,
    ):
        asyncio.run(_set_clock(far, born + 300))
        _pull_all(far, born + 300, _directly(far), threads)
        _let_pull(far, born + 300, workers)  # so that all have opened what they need
        ways: dict[str, Callable[[float], None]] = {
            _DIRECT: lambda now: _pull_all(far, now, _directly(far), threads),
            _TUNNEL: lambda now: _pull_all(far, now, by_tunnel, threads),
            _PROCESSES: lambda now: _let_pull(far, now, workers),
        }
        here = [os.getpid()]
        pullers = {_DIRECT: here, _TUNNEL: here, _PROCESSES: [each.pid for each in workers]}
        figures = {(step, way): Figures() for step in _STEPS for way in _WAYS}
        now = born + 300.0
        for _ in range(ROUNDS):
            for (step, way), into in figures.items():
                now += step * MINUTE
                _round(into, far, now, step, ways[way], pullers[way], hub)
        list(threads.map(lambda _: connections.close_all(), range(settings.WORKER_THREADS)))
    for (step, way), seconds in figures.items():
        _report(report, step, way, seconds)
    Cluster.objects.filter(pk__in=far.ports).delete()
    close_stores()


def _round(
    figures: Figures,
    far: Far,
    now: float,
    step: int,
    pull: Callable[[float], None],
    pullers: Sequence[int],
    hub: int,
) -> None:
    """Measure one pull of every cluster, of ``step`` new minutes, by some processes."""
    asyncio.run(_set_clock(far, now))
    urls = _urls(far, now)
    parsed = asyncio.run(_fetch(urls))  # the sources make their answers now
    wall, cpu = cpu_seconds_of(lambda: asyncio.run(_fetch(urls)))
    figures.floor_wall.append(wall)
    figures.floor_cpu.append(cpu)
    before = {process: cpu_seconds(process) for process in (hub, far.process, *pullers)}
    figures.wall.append(seconds_of(lambda: pull(now)))
    spent = {process: cpu_seconds(process) - known for process, known in before.items()}
    figures.cpu.append(sum(spent[process] for process in pullers))
    figures.hub_cpu.append(spent[hub])
    figures.far_cpu.append(spent[far.process])
    figures.rows, figures.values = _count(parsed, floor_minute(now) - step * MINUTE)


def _pull_all(far: Far, now: float, connect: Connect, threads: ThreadPoolExecutor) -> None:
    """Pull every cluster once.

    Raises:
        RuntimeError: if one was not pulled.
    """

    def one(cluster_id: UUID) -> None:
        try:
            result = pull_cluster(cluster_id, now, connect=connect)
        finally:
            close_old_connections()
        if result.outcome != "ok" or result.end != floor_minute(now):
            msg = f"not pulled: {result}"
            raise RuntimeError(msg)

    list(threads.map(one, far.ports))


def _let_pull(far: Far, now: float, workers: Sequence[subprocess.Popen[str]]) -> None:
    """Let the worker processes pull every cluster once.

    Raises:
        RuntimeError: if one was not pulled; the worker printed the reason on standard error.
    """
    redis_client().rpush(WAITING, *map(str, far.ports))
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{now}\n")
        worker.stdin.flush()
    for worker in workers:
        _hear(worker, "done")


def _hear(worker: subprocess.Popen[str], word: str) -> None:
    assert worker.stdout is not None
    if worker.stdout.readline() != f"{word}\n":
        raise RuntimeError("a worker process gave up")


@contextlib.contextmanager
def _workers(store: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Run worker processes until the block ends; yield them once they wait for work."""
    command = [sys.executable, "-m", "tests.bench.pull_worker", str(store)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(_WORKERS)
    ]
    try:
        for worker in started:
            _hear(worker, "ready")
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.wait()


def _report(report: Report, step: int, way: str, seconds: Figures) -> None:
    """Report one path."""
    name = f"{way}, {_STEPS[step]} a pull"
    about = f"{CLUSTERS} clusters, {seconds.rows:,} rows, {seconds.values:,} values"
    report.compare(AREA, f"{name}: wall", "s", seconds.wall, _FLOOR, seconds.floor_wall, about)
    report.compare(AREA, f"{name}: CPU", "s", seconds.cpu, _FLOOR, seconds.floor_cpu)
    ours, floor = (
        [seconds.values / s for s in each] for each in (seconds.wall, seconds.floor_wall)
    )
    report.compare(AREA, f"{name}: field values stored", "values/s", ours, _FLOOR, floor)
    cpu = statistics.median(seconds.cpu)
    per_million = 1e6 / seconds.values
    report.add(Measure(AREA, f"{name}: worker's CPU", "s/million", cpu * per_million))
    hub = statistics.median(seconds.hub_cpu)
    if way != _DIRECT:
        far = statistics.median(seconds.far_cpu)
        report.add(Measure(AREA, f"{name}: hub's CPU", "s/million", hub * per_million))
        report.add(Measure(AREA, f"{name}: sources' CPU", "s/million", far * per_million))
    if step == 1:
        share = 100 / 60
        report.add(Measure(AREA, f"{way}: worker at one point a minute", "% of core", share * cpu))
        if way != _DIRECT:
            report.add(Measure(AREA, f"{way}: hub at one point a minute", "% of core", share * hub))


@contextlib.contextmanager
def _far_end(born: int) -> Iterator[Far]:
    """Run the sources until the block ends; yield them once all tunnels are up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.pull_far", str(CLUSTERS), str(born)],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        greeting = json.loads(process.stdout.readline())
        ports = {UUID(key): port for key, port in greeting["ports"].items()}
        far = Far(greeting["control"], ports, born, process.pid)
        _wait_for_tunnels(far)
        yield far
    finally:
        process.kill()
        process.wait()


def _wait_for_tunnels(far: Far) -> None:
    """Return once the hub says that every cluster's tunnel is up.

    Raises:
        TimeoutError: if that takes too long.
    """
    end = time.monotonic() + WAIT_SECONDS
    up = ClusterStatus.objects.filter(cluster_id__in=far.ports, tunnel_up=True)
    while (count := up.count()) < len(far.ports):
        if time.monotonic() > end:
            msg = f"{count} of {len(far.ports)} tunnels came up"
            raise TimeoutError(msg)
        time.sleep(0.5)


def _urls(far: Far, now: float) -> list[str]:
    """Return what the pulls of this minute will request."""
    urls = []
    for cluster_id, port in far.ports.items():
        start, end = ledger_rules.live_range(get_store().position(cluster_id, STREAM).head, now)
        urls.append(f"http://127.0.0.1:{port}/v1/range?start={start}&end={end}")
    return urls


async def _fetch(urls: list[str]) -> list[Any]:
    """Fetch and parse, with as many requests at a time as the worker has threads."""
    gate = asyncio.Semaphore(settings.WORKER_THREADS)
    async with aiohttp.ClientSession() as session:

        async def one(url: str) -> Any:
            async with gate, session.get(url) as response:
                return orjson.loads(await response.read())

        return await asyncio.gather(*(one(url) for url in urls))


async def _set_clock(far: Far, now: float) -> None:
    url = f"http://127.0.0.1:{far.control}/clock?now={now}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        response.raise_for_status()


def _count(answers: list[Any], since: int) -> tuple[int, int]:
    """Return how many rows, and how many values in them, the answers have from a minute on."""
    rows = values = 0
    for answer in answers:
        for table in answer["kinds"].values():
            new = [at for at, t in enumerate(table["t"]) if t >= since]
            rows += len(new)
            for columns in table["fields"].values():
                values += sum(columns["n"][at] is not None for at in new)
    return rows, values


def _directly(far: Far) -> Connect:
    """Return a function that connects to a cluster's port, without hub and tunnel."""

    class Client:
        def __init__(self, session: aiohttp.ClientSession) -> None:
            self._session = session

        async def get_json(
            self, path: str, params: Any = None, *, before_parsing: Callable[[], object]
        ) -> Any:
            async with self._session.get(path, params=params) as response:
                body = await response.read()
            before_parsing()
            return orjson.loads(body)

    @contextlib.asynccontextmanager
    async def opened(cluster: Cluster) -> AsyncIterator[JsonClient]:
        base = f"http://127.0.0.1:{far.ports[cluster.pk]}"
        async with aiohttp.ClientSession(base) as session:
            yield Client(session)

    def connect(cluster: Cluster) -> AbstractAsyncContextManager[JsonClient]:
        return opened(cluster)

    return connect
