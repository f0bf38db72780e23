"""The hub itself: how it begins, what it sheds and publishes, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import asyncssh
import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from redis import Redis

from clusters.models import ClusterStatus, TunnelSession
from clusters.tunnel.counters import HEARTBEAT_KEY, read_hub_metrics
from clusters.tunnel.host_key import ensure_host_key
from clusters.tunnel.hub.process import Hub, HubConfig
from opscenter.core.errors import (
    ClusterUnreachableError,
)
from opscenter.core.write_checks import HUB, key_of, parse
from tests.clusters.tunnel.conftest import (
    LIMITS,
    asyncssh_agent,
    connect,
    counted,
    get_json,
    make_identity,
    running_hub,
    serving,
    until,
    websocket_agent,
)
from tests.clusters.tunnel.hub.conftest import row_of


async def test_heartbeat_and_counters_reach_redis(
    settings, short_directory, tmp_path, transactional_db, target, redis_url
):
    async with running_hub(settings, short_directory, LIMITS, redis_url=redis_url) as hub:
        redis = Redis.from_url(redis_url)

        def beat():
            return redis.get(HEARTBEAT_KEY)

        value = await until(lambda: sync_to_async(beat)())
        assert abs(float(value) - datetime.now(UTC).timestamp()) < 60
        writes = parse(await sync_to_async(redis.get)(key_of(HUB)))
        assert writes is not None
        assert writes.proven_at is not None
        assert writes.failing_since is None
        metrics = await sync_to_async(read_hub_metrics)(redis)
        samples = [figure.sample for figure in metrics[hub.config.hub_id]]
        values = {(one.name, *one.labels.values()): one.value for one in samples}
        assert values["tunnel_sessions", "ready"] == 0
        assert values["hub_fds",] > 0
        redis.close()


@pytest.mark.usefixtures("starts_servers")
async def test_a_hub_whose_gateway_cannot_be_reached_shows_no_life(
    settings, short_directory, tmp_path, transactional_db, redis_url
):
    async with running_hub(settings, short_directory, LIMITS, redis_url=redis_url) as hub:
        redis = Redis.from_url(redis_url)
        assert await until(lambda: sync_to_async(redis.get)(HEARTBEAT_KEY))
        gateway = urlsplit(hub.config.gateway_url).path
        await asyncio.to_thread(os.rename, gateway, f"{gateway}.away")
        await sync_to_async(redis.delete)(HEARTBEAT_KEY)
        with pytest.raises(OSError, match="No such file"):
            await hub._heartbeat()
        assert await sync_to_async(redis.get)(HEARTBEAT_KEY) is None
        await asyncio.to_thread(os.rename, f"{gateway}.away", gateway)
        await hub._heartbeat()
        assert await sync_to_async(redis.get)(HEARTBEAT_KEY)
        redis.close()


@pytest.mark.usefixtures("starts_servers")
async def test_a_killed_hub_closes_what_it_left_open_when_it_starts_again(
    settings, short_directory, tmp_path, transactional_db
):
    identity = await make_identity(tmp_path, "north-1")
    seen = datetime.now(UTC) - timedelta(minutes=5)
    for hub_id in ("hub-1", "hub-2"):
        await TunnelSession.objects.acreate(
            id=uuid4(), cluster=identity.cluster, hub=hub_id, state="ready", transport="tcp",
            remote_address="192.0.2.1", connected_at=seen, seen_at=seen,
        )  # fmt: skip
    await ClusterStatus.objects.aupdate(tunnel_up=True, tunnel_since=seen)
    async with running_hub(settings, short_directory, LIMITS):
        row = await TunnelSession.objects.aget(hub="hub-1")
        assert (row.state, row.ended_at) == ("gone", seen)
        assert row.end_reason == "the hub ended without saying so"
        assert (await TunnelSession.objects.aget(hub="hub-2")).ended_at is None


async def test_a_stopped_hub_says_so_and_lets_a_pull_finish(
    settings, short_directory, tmp_path, transactional_db, target
):
    release = asyncio.Event()

    async def slow(writer):
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Connection: close\r\nContent-Length: 1\r\n\r\n7")

    target.answers["/slow"] = slow
    limits = replace(LIMITS, shutdown_seconds=10)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with asyncssh_agent(hub, identity, target):
            session = await serving(hub, identity)
            pull = asyncio.create_task(get_json(identity, "/slow"))
            await until(lambda: hub.opener.channels == 1)
            stopping = asyncio.create_task(hub.stop())
            await until(lambda: hub.gateway.draining)
            with pytest.raises(ClusterUnreachableError):
                await get_json(identity)
            release.set()
            assert await pull == 7
            await stopping
            row = await row_of(session)
            assert row.end_reason == "the hub was stopped"
            assert row.ended_at is not None


async def test_too_many_unfinished_handshakes_are_shed_before_any_cryptography(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(LIMITS, pending_handshakes_per_address=3, login_seconds=1)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        silent = [await asyncio.open_connection("127.0.0.1", hub.port) for _ in range(3)]
        await until(lambda: hub.context.pending == 3)
        with pytest.raises((asyncssh.Error, OSError)):
            await connect(hub, identity)
        assert counted(hub, "tunnel_handshakes_total", result="shed") >= 1
        await until(lambda: hub.context.pending == 0)  # the login time-out frees them
        assert counted(hub, "tunnel_handshakes_total", result="timeout") == 3
        assert hub.door.held("127.0.0.1") == 0
        async with asyncssh_agent(hub, identity, target):
            await serving(hub, identity)
        for _, writer in silent:
            writer.close()


@pytest.mark.usefixtures("starts_servers")
async def test_silent_connections_to_the_websocket_port_are_closed(
    settings, short_directory, transactional_db
):
    limits = replace(LIMITS, login_seconds=0.3, idle_seconds=0.4)
    async with running_hub(settings, short_directory, limits) as hub:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.ws_port)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_websocket_needs_the_sub_protocol_and_a_key(hub, identity, target):
    import aiohttp

    url = f"http://127.0.0.1:{hub.ws_port}/tunnel"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 426
        async with session.get(f"http://127.0.0.1:{hub.ws_port}/") as response:
            assert response.status == 404
        async with session.ws_connect(url) as ws:
            assert (await ws.receive()).data == 1002
    stranger = replace(identity, key=asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(asyncssh.PermissionDenied):
        async with websocket_agent(hub, stranger, target):
            pass
    await until(lambda: hub.context.pending == 0)


async def test_the_hub_refuses_uvloop(settings, short_directory, transactional_db, monkeypatch):
    monkeypatch.setattr(type(asyncio.get_running_loop()), "__module__", "uvloop")
    with pytest.raises(ImproperlyConfigured, match="uvloop"):
        async with running_hub(settings, short_directory, LIMITS):
            pass


async def test_a_rekey_in_mid_transfer_changes_nothing(hub, identity, target):
    body = json.dumps(["x" * 50] * 60_000).encode()
    target.set_json("/large", body)
    async with asyncssh_agent(hub, identity, target, rekey_bytes=500_000):
        await serving(hub, identity)
        answer = await get_json(identity, "/large", max_bytes=10_000_000)
        assert json.dumps(answer).encode() == body


@pytest.mark.usefixtures("starts_servers")
def test_a_gateway_address_of_another_kind_is_refused(tmp_path):
    async def start():
        hub = Hub(
            HubConfig(
                hub_id="hub-1",
                host="127.0.0.1",
                port=0,
                ws_port=0,
                gateway_url="http://x",
                host_key=ensure_host_key(tmp_path / "key"),
                redis_url="unix:///nothing",
            )
        )
        await hub.start()

    with pytest.raises(ImproperlyConfigured, match="OPSCENTER_GATEWAY_URL"):
        asyncio.run(start())


async def test_a_hub_stops_though_a_loop_swallows_its_cancellation(hub):
    swallowed = asyncio.Event()

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if swallowed.is_set():
                    raise
                swallowed.set()

    hub._tasks.append(asyncio.create_task(stubborn()))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await hub.stop(drain_seconds=0)
    assert swallowed.is_set()
    assert all(task.done() for task in hub._tasks)


@pytest.mark.usefixtures("starts_servers")
async def test_a_hub_that_is_stopped_while_it_begins_stops(
    transactional_db, settings, short_directory, limits
):
    for steps in range(12):
        async with asyncio.timeout(30), running_hub(settings, short_directory, limits):
            for _ in range(steps):
                await asyncio.sleep(0)
