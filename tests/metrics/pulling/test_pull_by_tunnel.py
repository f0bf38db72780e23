"""Pulls through the real hub, its gateway and a real SSH tunnel, with faults on the way."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from django.db import connections

from clusters.models import Cluster, ClusterStatus
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import PullResult, pull_cluster
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rollups import rounded_mean
from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM
from metrics.stores import get_store
from tests.clusters.tunnel.conftest import (
    LIMITS,
    Identity,
    asyncssh_agent,
    make_identity,
    running_hub,
    serving,
)
from tests.faultproxy import FaultProxy
from tests.fleet.answers import SimulatedAgent
from tests.fleet.world import World
from tests.metrics.conftest import ledger_of, status_of

T0 = 1_800_000_000


def at(minute: float) -> float:
    return T0 + minute * 60


@dataclass
class SourceConnection:
    """Agent -> fault proxy -> tunnel -> hub -> gateway -> pull."""

    identity: Identity
    hub: object
    proxy: FaultProxy
    simulated: SimulatedAgent
    clock: list[float]
    port: int

    @property
    def cluster(self) -> Cluster:
        return self.identity.cluster

    async def dial(self, stack: AsyncExitStack) -> None:
        """Let the agent sign in through the proxy and wait until the hub serves it."""
        await stack.enter_async_context(
            asyncssh_agent(self.hub, self.identity, self, port=self.proxy.port)
        )
        await serving(self.hub, self.identity)
        await self.hub.recorder.flushed()  # type: ignore[attr-defined]

    async def pull(self, minute: float) -> PullResult:
        self.clock[0] = at(minute)
        return await in_thread(pull_cluster, self.cluster.pk, at(minute))


async def in_thread(function, *arguments):
    """Run as a worker does: in a thread with its own database connection."""

    def work():
        try:
            return function(*arguments)
        finally:
            connections.close_all()

    return await asyncio.to_thread(work)


@pytest.fixture
async def way(
    transactional_db, settings, store, redis_server, tmp_path
) -> AsyncIterator[SourceConnection]:
    settings.PULL_DEADLINE_SECONDS = 30  # a busy machine must not make a pull fail
    directory = Path(tempfile.mkdtemp(prefix="oc"))
    clock = [at(0)]
    simulated = SimulatedAgent(World.make(5, 1, nodes=2), born=T0, clock=lambda: clock[0])
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(settings, directory, LIMITS))
        runner = web.AppRunner(simulated.make_app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", hub.port))
        identity = await make_identity(tmp_path, "north-1")
        yield SourceConnection(identity, hub, proxy, simulated, clock, runner.addresses[0][1])
    shutil.rmtree(directory)


def assert_store_equals_world(way: SourceConnection, first: int, last: int) -> None:
    """Compare every node and pod number of the minutes [first, last) with the invented world."""
    world, found, expected = way.simulated.world, {}, {}
    for minute in range(T0 // 60 + first, T0 // 60 + last):
        for node, cells in world.node_rows(minute):
            expected[minute * 60, SeriesKey("node", "", node.name)] = cells
        for bucket, name, cells in world.pod_rows(minute):
            expected[minute * 60, SeriesKey("pod", bucket.ns, name)] = cells
    for kind in ("node", "pod"):
        for row in get_store().scan(way.cluster.pk, kind, "1m", 0, 1 << 33):
            for field, cell in zip(FIELD_NAMES[kind], row.cells, strict=True):
                if cell is not None:
                    found[row.ts, row.key, field] = (cell.total, cell.low, cell.high)
    assert found == {
        (t, key, field): (rounded_mean(cell[1], cell[0]), cell[2], cell[3])
        for (t, key), cells in expected.items()
        for field, cell in cells.items()
    }


async def test_half_an_hour_without_a_tunnel_is_filled_through_the_next_one(way):
    async with AsyncExitStack() as first:
        await way.dial(first)
        assert (await way.pull(10.1)).outcome == "ok"
        way.proxy.drop_all()
    await way.hub.recorder.flushed()
    await wait_for_tunnel(way.cluster, up=False)
    for minute in range(11, 41):
        assert (await way.pull(minute + 0.1)).code == "tunnel_down"
    async with AsyncExitStack() as second:
        await way.dial(second)
        assert (await way.pull(41.1)).gaps_open
        filled = await in_thread(backfill_cluster, way.cluster.pk, at(41.2))
        assert filled.requested == [(at(20), at(30)), (at(10), at(20))]
    lines = await in_thread(ledger_of, way.cluster)
    assert [(w.state, w.got, w.reason) for w in lines] == [
        ("done", 10, ""),
        ("done", 10, "tunnel_down"),
        ("done", 10, "tunnel_down"),
        ("done", 10, "tunnel_down"),
        ("done", 1, ""),
    ]
    position = await in_thread(lambda: get_store().position(way.cluster.pk, STREAM))
    assert position.watermark == at(41)
    await in_thread(assert_store_equals_world, way, 0, 41)


FAULTS = {
    "drop": lambda proxy: proxy.drop_all(),
    "reset": lambda proxy: proxy.reset_all(),
    "black hole": lambda proxy: setattr(proxy, "black_hole", True),
}


@pytest.mark.parametrize("fault", [*FAULTS, "stall"])
async def test_a_fault_in_the_middle_of_a_pull_costs_nothing_but_time(way, fault, settings):
    async with AsyncExitStack() as first:
        await way.dial(first)
        assert (await way.pull(10.1)).outcome == "ok"
        way.simulated.faults.slow_seconds = 0.5
        settings.PULL_DEADLINE_SECONDS = 2
        # A frozen relay still passes what it was reading: one packet of the pull gets through.
        way.proxy.freeze = fault == "stall"
        running = asyncio.create_task(way.pull(11.1))
        await asyncio.sleep(0.25)  # the request is at the agent now
        FAULTS.get(fault, lambda _: None)(way.proxy)
        failed = await running
        assert failed.outcome == "failed"
        assert failed.code in {"service_down", "tunnel_down", "bad_response"}
        status = await in_thread(status_of, way.cluster)
        assert status.pull_failures == 1
        assert status.pull_error_code in {failed.code, "cut_off"}
        assert status.pull_error
        way.proxy.freeze = way.proxy.black_hole = False
        way.proxy.drop_all()
    way.simulated.faults.slow_seconds = 0.0
    settings.PULL_DEADLINE_SECONDS = 30
    async with AsyncExitStack() as second:
        await way.dial(second)
        result = await way.pull(12.1)
        assert (result.outcome, result.gaps_open) == ("ok", False)
    lines = await in_thread(ledger_of, way.cluster)
    assert [(w.state, w.got) for w in lines] == [("done", 10), ("done", 2)]
    assert lines[1].reason == failed.code
    await in_thread(assert_store_equals_world, way, 0, 12)


async def wait_for_tunnel(cluster: Cluster, *, up: bool) -> None:
    async with asyncio.timeout(20):
        while True:
            status = await sync_to_async(ClusterStatus.objects.get)(cluster=cluster)
            if status.tunnel_up == up:
                return
            await asyncio.sleep(0.05)
