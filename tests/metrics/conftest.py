"""Agents served on loopback behind a gateway that speaks the hub's CONNECT, and a real store.

Pulls are synchronous and run their own event loop, so everything they talk to lives in a loop in
a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from aiohttp import web

from clusters.models import Cluster, ClusterStatus
from metrics.series.windows import STREAM, Window
from metrics.stores import close_stores, get_store
from tests.factories import ClusterFactory
from tests.metrics.stores.influxdb import server as influxdb2
from tests.servers.influxdb import InfluxServer, influx_server

T = TypeVar("T")


class Stand:
    """Serves agents, each behind its own cluster id."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.ports: dict[UUID, int] = {}
        self.connections: dict[UUID, int] = {}
        self._path = path
        self._runners: list[web.AppRunner] = []
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._servers.append(
            self.run(asyncio.start_unix_server(self._connect, str(path), limit=1 << 16))
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the stand's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def serve(self, cluster: Cluster, app: web.Application) -> int:
        """Serve an agent's application as ``agent`` of the cluster; return its port."""
        self.ports[cluster.pk] = self.run(self._serve(app))
        return self.ports[cluster.pk]

    def serve_raw(self, cluster: Cluster, handler: Callable[..., Coroutine[Any, Any, None]]) -> int:
        """Serve whatever ``handler(reader, writer)`` says, HTTP or not."""
        server = self.run(asyncio.start_server(handler, "127.0.0.1", 0))
        self._servers.append(server)
        self.ports[cluster.pk] = server.sockets[0].getsockname()[1]
        return self.ports[cluster.pk]

    def close(self) -> None:
        """Stop everything."""
        for server in self._servers:
            self.loop.call_soon_threadsafe(server.close)
        for runner in self._runners:
            self.run(runner.cleanup())
        self.run(self._cancel_rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()

    async def _serve(self, app: web.Application) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    async def _cancel_rest(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        cluster_id = UUID(head.split()[1].split(":")[0].partition(".")[2])
        port = self.ports.get(cluster_id)
        self.connections[cluster_id] = self.connections.get(cluster_id, 0) + 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if port is None:
                writer.write(
                    b"HTTP/1.1 503 x\r\nX-Tunnel-Error: no_tunnel\r\n"
                    b"X-Tunnel-Reason: no tunnel is up\r\n\r\n"
                )
            else:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            writer.transport.abort()
        writer.close()


@pytest.fixture(autouse=True)
def _store_of_the_run(request, settings, monkeypatch) -> Iterator[None]:
    """With ``--metrics-store influxdb``, give each test buckets of its own in the real server.

    They keep points for ever: most tests live in 2023, which InfluxDB would refuse as too old.
    """
    if request.config.getoption("--metrics-store") == "sqlite":
        yield
        return
    if marker := request.node.get_closest_marker("sqlite_only"):
        pytest.skip(marker.kwargs["reason"])
    server = influxdb2.server()
    monkeypatch.setattr(
        "metrics.stores.influxdb.retention.retention_seconds", influxdb2.keep_for_ever
    )
    settings.METRICS_STORE = "influxdb"
    settings.INFLUXDB_URL, settings.INFLUXDB_ORG = server.url, server.org
    settings.INFLUXDB_TOKEN = server.token
    with contextlib.contextmanager(influxdb2.own_prefix)() as prefix:
        settings.INFLUXDB_BUCKET_PREFIX = prefix
        yield
        close_stores()


@pytest.fixture(scope="session")
def influxdb(starts_servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    """A real InfluxDB 1.x; tests make databases of their own in it."""
    with influx_server(tmp_path_factory.mktemp("influxdb")) as server:
        yield server


@pytest.fixture
def stand(starts_servers, settings, tmp_path_factory) -> Iterator[Stand]:
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="oc"))
    settings.GATEWAY_URL = f"unix://{directory / 'gateway.sock'}"
    one = Stand(directory / "gateway.sock")
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(directory)


@pytest.fixture
def pullable(db, store, redis_server, stand) -> Cluster:
    """An enrolled cluster whose tunnel is said to be up."""
    return ClusterFactory(name="north-1", current__tunnel_up=True)


def status_of(cluster: Cluster) -> ClusterStatus:
    return ClusterStatus.objects.get(cluster=cluster)


def ledger_of(cluster: Cluster) -> list[Window]:
    return get_store().windows(cluster.pk, STREAM, 0, 1 << 40)


def story(cluster: Cluster, origin: int) -> list[tuple[int, int, str, int, str]]:
    """Return the ledger as (start, end, state, got, reason), in minutes from ``origin``."""
    return [
        ((w.start - origin) // 60, (w.end - origin) // 60, w.state, w.got, w.reason)
        for w in ledger_of(cluster)
    ]
