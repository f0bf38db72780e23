"""Real servers behind real tunnels: what is pulled, filled and merged equals what they hold."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from clusters import services
from clusters.models import Cluster, ClusterStatus
from metrics.connections.config import read_config, save_source
from metrics.connections.probe import offered_services, try_source
from metrics.models import MetricSource
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.stores import get_store
from tests.clusters.tunnel.conftest import (
    LIMITS,
    Identity,
    connect,
    make_identity,
    running_hub,
    serving,
)
from tests.metrics.conftest import ledger_of, status_of
from tests.metrics.sources.influxdb2 import test_source as telegraf
from tests.servers.etcd import etcd, put
from tests.servers.heapster import Heapster, expected_minutes
from tests.servers.influxdb import PASSWORD, USER, influx_server
from tests.servers.influxdb2 import Influx2Server, given_influxdb2
from tests.servers.prometheus import prometheus

DATABASE = "k8s"
PORTS = {"agent": 9099, "influxdb": 8086, "prometheus": 9090, "etcd": 2379}


class Site:
    """A cluster behind a real hub; its agent forwards what the test says."""

    def __init__(self, hub: Any, identity: Identity, stack: AsyncExitStack) -> None:
        self.hub, self.identity, self._stack = hub, identity, stack
        self.targets: dict[str, int] = {}

    @property
    def cluster(self) -> Cluster:
        return self.identity.cluster

    async def dial(self) -> Any:
        """Sign in and offer every target that the hub accepts."""
        connection = await connect(self.hub, self.identity)
        self._stack.callback(connection.abort)
        for service, port in self.targets.items():
            await connection.forward_remote_port(service, PORTS[service], "127.0.0.1", port)
        await serving(self.hub, self.identity)
        await self.hub.recorder.flushed()
        return connection

    async def allow(self, *names: str) -> None:
        for name in names:
            await run(services.allow_service, self.cluster, name, actor="test")

    async def pull(self, now: float):
        await self.hub.recorder.flushed()
        # The real server's clock is that of today, not of ``now``.
        await run(ClusterStatus.objects.update, clock_skew_ms=None)
        return await run(pull_cluster, self.cluster.pk, now)

    async def fill(self, now: float) -> None:
        for _ in range(20):
            if not (await run(backfill_cluster, self.cluster.pk, now)).open:
                return
        raise AssertionError("gaps stay open")


async def run(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run as a worker does: in a thread with its own database connection."""

    def work() -> Any:
        try:
            return function(*args, **options)
        finally:
            connections.close_all()

    return await asyncio.to_thread(work)


@pytest.fixture
async def site(
    starts_servers, transactional_db, settings, store, redis_server, tmp_path
) -> AsyncIterator[Site]:
    settings.PULL_DEADLINE_SECONDS = 60  # a busy machine must not make a pull fail
    directory = Path(tempfile.mkdtemp(prefix="oc"))
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(
            running_hub(settings, directory, LIMITS, redis_url=settings.REDIS_URL)
        )
        identity = await make_identity(tmp_path, "north-1")
        yield Site(hub, identity, stack)
    shutil.rmtree(directory)


@pytest.fixture
def servers() -> Any:
    with ExitStack() as stack:
        yield stack


def stored_minutes(cluster: Cluster, keys: set[SeriesKey], start: int, end: int) -> dict[Any, Any]:
    """Return every number of the 1m tier, by (minute, series, field)."""
    found = {}
    for key in keys:
        for field in FIELD_NAMES[key.kind]:
            columns = get_store().read(cluster.pk, key, field, "1m", start, end)
            for t, total in zip(columns.t, columns.total, strict=True):
                found[t, key, field] = total
    return found


def influx_config(**changes: Any) -> Any:
    given = {"settings": {"username": USER}, "secrets": {"password": PASSWORD}, **changes}
    return read_config("influxdb", **given)


async def test_an_influxdb_behind_a_tunnel_is_tested_pulled_cut_and_filled_to_the_last_number(
    site, servers, tmp_path
):
    end = int(time.time()) // 600 * 600 - 600
    start = end - 3 * 3600
    server = servers.enter_context(influx_server(tmp_path))
    heapster = Heapster(server, DATABASE)
    heapster.create()
    heapster.write(start, end)
    await site.allow("influxdb")
    site.targets = {"influxdb": server.port}
    connection = await site.dial()
    assert await run(offered_services, site.cluster) == ["influxdb"]

    report = await run(try_source, site.cluster, influx_config(), actor="test")
    assert report.ok, report
    assert report.product == "InfluxDB"
    assert report.version.startswith("1.")  # Debian has 1.6.7
    assert report.series == {"node": 2, "filesystem": 4, "pod": 3}
    assert report.oldest == start
    why = {one["field"]: one["why"] for one in report.missing}
    assert why["etcd_fsync_us"]
    assert abs(report.clock_skew_ms) < 5000
    await run(save_source, site.cluster, influx_config(), actor="test", probe=report.as_json())

    # Two hours are pulled, then the tunnel is cut, and the last hour is filled.
    middle = start + 2 * 3600
    assert (await site.pull(middle + 95)).outcome == "ok"
    await site.fill(middle + 96)
    connection.abort()
    await connection.wait_closed()
    assert (await site.pull(middle + 1800)).code == "tunnel_down"
    await site.dial()
    live = await site.pull(end + 95)
    assert (live.outcome, live.end, live.gaps_open) == ("ok", end, True)
    await site.fill(end + 96)

    expected = expected_minutes(start, end)
    keys = {key for _, key in expected}
    wanted = {
        (t, key, field): cell.total
        for (t, key), cells in expected.items()
        for field, cell in zip(FIELD_NAMES[key.kind], cells, strict=True)
        if cell is not None
    }
    assert await run(stored_minutes, site.cluster, keys, start - 7200, end + 7200) == wanted
    lines = await run(ledger_of, site.cluster)
    assert {line.state for line in lines} == {"done"}
    assert sum(line.got for line in lines) == 180
    cut = [line for line in lines if line.start >= middle and line.filled_at]
    assert {line.reason for line in cut} <= {"tunnel_down", "centre_down"}
    assert cut[0].reason == "tunnel_down"


REFUSALS = {
    "a wrong password": ({"secrets": {"password": "wrong"}}, "credentials_refused"),
    "no password": ({"settings": {}, "secrets": {}}, "credentials_refused"),
    "another database": ({"settings": {"username": USER, "database": "x"}}, "database_missing"),
    "a wrong path": ({"settings": {"username": USER, "path_prefix": "/a"}}, "not_found"),
    "another service": ({"service": "prometheus"}, "consent_off"),
}


async def test_a_wrong_setting_is_named_by_the_test(site, servers, tmp_path):
    server = servers.enter_context(influx_server(tmp_path))
    Heapster(server, DATABASE).create()
    await site.allow("influxdb")
    site.targets = {"influxdb": server.port}
    await site.dial()
    found = {}
    for name, (changes, _) in REFUSALS.items():
        config = influx_config(**changes)
        report = await run(try_source, site.cluster, config, actor="test", wait_seconds=0.5)
        assert not report.ok
        assert PASSWORD not in f"{report.message} {report.advice}"
        found[name] = report.code
    assert found == {name: code for name, (_, code) in REFUSALS.items()}
    wrong_kind = read_config("prometheus", service="influxdb")
    report = await run(try_source, site.cluster, wrong_kind, actor="test")
    assert not report.ok


def influx2_config(server: Influx2Server, bucket: str, *, token: str = "") -> Any:
    settings = {"org": server.org, "bucket": bucket}
    return read_config("influxdb2", settings=settings, secrets={"token": token or server.token})


async def test_an_influxdb_2_behind_a_tunnel_is_tested_pulled_cut_and_filled_to_the_last_number(
    site, servers, monkeypatch
):
    monkeypatch.setattr(telegraf, "END", telegraf.START + 3000)
    start, end = telegraf.START, telegraf.END
    server = given_influxdb2()
    bucket = servers.enter_context(server.bucket(seconds=86_400))
    server.write(bucket, [line for t in range(start, end, 20) for line in telegraf.samples(t)])
    await site.allow("influxdb")
    site.targets = {"influxdb": server.port}
    connection = await site.dial()

    wrong = influx2_config(server, bucket, token="wrong")
    report = await run(try_source, site.cluster, wrong, actor="test", wait_seconds=0.5)
    assert (report.ok, report.code) == (False, "credentials_refused")
    config = influx2_config(server, bucket)
    report = await run(try_source, site.cluster, config, actor="test")
    assert (report.ok, report.product) == (True, "InfluxDB"), report
    assert report.version.lstrip("v").startswith("2.")
    assert report.series["node"] == len(telegraf.NODES)
    assert report.series["pod"] == len(telegraf.PODS)
    await run(save_source, site.cluster, config, actor="test", probe=report.as_json())

    # Ten minutes are pulled, then the tunnel is cut, and the rest is filled.
    middle = start + 600
    assert (await site.pull(middle + 95)).outcome == "ok"
    await site.fill(middle + 96)
    connection.abort()
    await connection.wait_closed()
    assert (await site.pull(middle + 300)).code == "tunnel_down"
    await site.dial()
    live = await site.pull(end + 95)
    assert (live.outcome, live.end, live.gaps_open) == ("ok", end, True)
    await site.fill(end + 96)

    wanted = {
        (t, key, name): value
        for (t, key), row in telegraf.expected().items()
        for name, value in row.items()
        if value is not None
    }
    keys = {key for _, key, _ in wanted}
    assert await run(stored_minutes, site.cluster, keys, start - 7200, end + 7200) == wanted
    lines = await run(ledger_of, site.cluster)
    assert {line.state for line in lines} == {"done"}
    assert sum(line.got for line in lines) == 50
    cut = {line.reason for line in lines if line.end > middle and line.filled_at}
    assert "tunnel_down" in cut <= {"tunnel_down", "centre_down"}


def prometheus_series(start: int, end: int) -> list[Any]:
    """Return what node-exporter and cAdvisor would have: one node with its memory."""
    times = range(start - 300, end + 60, 30)
    labels = {"instance": "n1:9100", "job": "node-exporter"}
    values = {
        "node_memory_MemTotal_bytes": float(8 << 30),
        "node_memory_MemAvailable_bytes": float(3 << 30),
        "node_load1": 1.5,
    }
    return [(name, labels, [(t, value) for t in times]) for name, value in values.items()]


async def test_a_prometheus_and_an_etcd_behind_one_tunnel_make_one_set_of_rows(
    site, servers, tmp_path
):
    end = int(time.time()) // 60 * 60 - 120
    start = end - 1800
    for name in ("prometheus", "etcd"):
        (tmp_path / name).mkdir()
    port = servers.enter_context(
        prometheus(tmp_path / "prometheus", series=prometheus_series(start, end))
    )
    etcd_port = servers.enter_context(etcd(tmp_path / "etcd"))
    await site.allow("prometheus", "etcd")
    site.targets = {"prometheus": port, "etcd": etcd_port}
    await site.dial()
    config = read_config("prometheus")
    report = await run(try_source, site.cluster, config, actor="test")
    assert (report.ok, report.product) == (True, "Prometheus"), report
    assert report.series["node"] == 1
    etcd_report = await run(try_source, site.cluster, read_config("etcd"), actor="test")
    assert (etcd_report.ok, etcd_report.product) == (True, "etcd"), etcd_report
    await run(save_source, site.cluster, config, actor="test", probe=report.as_json())
    await run(save_source, site.cluster, read_config("etcd"), actor="test")

    assert (await site.pull(end - 60)).outcome == "ok"
    for number in range(20):
        await run(put, etcd_port, f"k{number}", "v")
    assert (await site.pull(end)).outcome == "ok"
    await site.fill(end + 1)

    row = await run(get_store().last_one, site.cluster.pk, await run(first_node, site.cluster))
    values = dict(zip(FIELD_NAMES["node"], row.values, strict=True))
    assert values["mem_ws"] == 5 << 30
    assert values["load1_m"] == 1500
    assert values["etcd_fsync_us"] > 0
    assert values["etcd_leader_changes"] >= 0
    etcd_row = await MetricSource.objects.aget(cluster=site.cluster, role="etcd")
    assert (etcd_row.error, etcd_row.state["at"]) == ("", end)
    # The overlap of the next pull asks for the same minute again: etcd's values stay.
    assert (await site.pull(end + 60)).outcome == "ok"
    columns = await run(
        get_store().read, site.cluster.pk, row.key, "etcd_fsync_us", "1m", start, end + 120
    )
    assert row.ts in columns.t
    status = await run(status_of, site.cluster)
    assert status.settle_seconds > 0
    lines = await run(ledger_of, site.cluster)
    assert not [line for line in lines if line.state == "gap"]


def first_node(cluster: Cluster) -> SeriesKey:
    [row] = get_store().last(cluster.pk, "node")
    return row.key


async def test_an_etcd_that_is_away_fails_no_pull_and_says_so(site, servers, tmp_path):
    end = int(time.time()) // 60 * 60 - 120
    directory = tmp_path / "prometheus"
    directory.mkdir()
    series = prometheus_series(end - 1800, end)
    port = servers.enter_context(prometheus(directory, series=series))
    await site.allow("prometheus", "etcd")
    site.targets = {"prometheus": port, "etcd": 1}
    await site.dial()
    await run(save_source, site.cluster, read_config("prometheus"), actor="test")
    await run(save_source, site.cluster, read_config("etcd"), actor="test")
    assert (await site.pull(end)).outcome == "ok"
    row = await MetricSource.objects.aget(cluster=site.cluster, role="etcd")
    assert "etcd of north-1: etcd refused" in row.error


async def test_a_service_that_is_allowed_by_its_test_is_there_when_the_agent_dials_again(
    site, servers, tmp_path
):
    server = servers.enter_context(influx_server(tmp_path))
    Heapster(server, DATABASE).create()
    stop = asyncio.Event()

    async def agent() -> None:
        """Dial, offer, and dial again when the hub hangs up, as our agent does."""
        while not stop.is_set():
            connection = await connect(site.hub, site.identity)
            for service, port in (("agent", 9099), ("influxdb", 8086)):
                with contextlib.suppress(asyncssh.ChannelListenError):
                    await connection.forward_remote_port(service, port, "127.0.0.1", server.port)
            waits = asyncio.create_task(stop.wait())
            gone = asyncio.create_task(connection.wait_closed())
            await asyncio.wait({waits, gone}, return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
            connection.abort()

    running = asyncio.create_task(agent())
    await serving(site.hub, site.identity)
    report = await run(try_source, site.cluster, influx_config(), actor="test")
    assert report.ok, report
    await sync_to_async(site.cluster.refresh_from_db)()
    assert site.cluster.allowed_services == ["agent", "influxdb"]
    await site.hub.recorder.flushed()
    assert await sync_to_async(
        ClusterStatus.objects.filter(cluster=site.cluster, tunnel_up=True).exists
    )()
    stop.set()
    await running
