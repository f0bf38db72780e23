"""Which session serves, which drains, and how a dead or a double one is found out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncssh
import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from redis import Redis

from clusters import services
from clusters.models import Cluster, ClusterKey, ClusterStatus, TunnelSession
from clusters.tunnel.counters import HEARTBEAT_KEY, read_hub_metrics
from clusters.tunnel.host_key import ensure_host_key
from clusters.tunnel.hub.process import Hub, HubConfig
from opscenter.core.errors import (
    ClusterUnreachableError,
    ConsentOffError,
    ServiceUnavailableError,
)
from tests.clusters.tunnel.conftest import (
    LIMITS,
    asyncssh_agent,
    connect,
    counted,
    get_json,
    make_identity,
    running_hub,
    serving,
    stock_agent,
    until,
    websocket_agent,
)
from tests.faultproxy import FaultProxy


async def _row(session):
    return await TunnelSession.objects.aget(id=session.id)


async def _ended(hub, session):
    await until(lambda: session.state == "gone", what="the session's end")
    await hub.recorder.flushed()
    return await _row(session)


# --- one cluster, several sessions ------------------------------------------------------------


async def test_the_newest_session_serves_and_the_older_drains_and_ends(hub, identity, target):
    async with asyncssh_agent(hub, identity, target):
        first = await serving(hub, identity)
        async with asyncssh_agent(hub, identity, target):
            await until(lambda: first.state == "draining")
            second = hub.registry.serving(identity.cluster.id)
            assert second is not first
            assert await get_json(identity) == {"hello": "world"}
            assert (await _ended(hub, first)).end_reason == "replaced by a newer session"
            assert hub.registry.sessions() == [second]
            assert await get_json(identity) == {"hello": "world"}
            await hub.recorder.flushed()
            cluster = await Cluster.objects.aget(id=identity.cluster.id)
            assert cluster.conflict_at is None  # the same agent from the same address


async def test_what_an_older_session_carries_is_finished(hub, identity, target):
    release = asyncio.Event()

    async def slow(writer):
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 1\r\n\r\n7")

    target.answers["/slow"] = slow
    async with asyncssh_agent(hub, identity, target):
        first = await serving(hub, identity)
        task = asyncio.create_task(get_json(identity, "/slow"))
        await until(lambda: first.streams == 1)
        async with asyncssh_agent(hub, identity, target):
            await until(lambda: first.state == "draining")
            release.set()
            assert await task == 7


async def test_a_session_without_services_does_not_take_over(hub, identity, target):
    async with asyncssh_agent(hub, identity, target):
        first = await serving(hub, identity)
        idle = await connect(hub, identity)
        await until(lambda: len(hub.registry.sessions()) == 2)
        assert hub.registry.serving(identity.cluster.id) is first
        assert await get_json(identity) == {"hello": "world"}
        idle.abort()
        await idle.wait_closed()


async def test_a_third_session_ends_the_oldest(hub, identity, target):
    async with contextlib.AsyncExitStack() as stack:
        sessions = []
        for _ in range(3):
            await stack.enter_async_context(asyncssh_agent(hub, identity, target))
            sessions.append(hub.registry.serving(identity.cluster.id))
        assert sessions[0].state == "gone"
        assert "two newer sessions" in (await _ended(hub, sessions[0])).end_reason
        assert hub.registry.sessions() == sessions[1:]


async def test_the_end_of_an_old_session_does_not_take_the_tunnel_down(hub, identity, target):
    async with contextlib.AsyncExitStack() as stack:
        old = await stack.enter_async_context(asyncssh_agent(hub, identity, target))
        first = await serving(hub, identity)
        await stack.enter_async_context(asyncssh_agent(hub, identity, target))
        second = hub.registry.serving(identity.cluster.id)
        await hub.recorder.flushed()
        before = await ClusterStatus.objects.aget(cluster=identity.cluster)
        assert before.tunnel_since < second.connected_at  # up since the first one
        old.abort()
        await _ended(hub, first)
        assert hub.registry.serving(identity.cluster.id) is second
        status = await ClusterStatus.objects.aget(cluster=identity.cluster)
        assert status.tunnel_up
        assert status.tunnel_since == before.tunnel_since
        assert await get_json(identity) == {"hello": "world"}


async def test_a_service_that_is_withdrawn_is_not_served(hub, identity, target):
    connection = await connect(hub, identity)
    listener = await connection.forward_remote_port("agent", 9099, "127.0.0.1", target.port)
    session = await serving(hub, identity)
    listener.close()
    await until(lambda: session.services == set())
    with pytest.raises(ConsentOffError, match="the agent does not offer agent"):
        await get_json(identity)
    connection.abort()
    await connection.wait_closed()


# --- one identity, two places -----------------------------------------------------------------


async def test_two_agents_with_one_key_are_flagged(hub, identity, target):
    one = {"client_version": "OpsCenterAgent_0.1.0 instance=aaaa"}
    two = {"client_version": "OpsCenterAgent_0.1.0 instance=bbbb"}
    async with asyncssh_agent(hub, identity, target, keepalive_interval=0.2, **one):
        first = await serving(hub, identity)
        assert first.instance == "aaaa"
        async with asyncssh_agent(hub, identity, target, **two):
            await _ended(hub, first)
            await hub.recorder.flushed()
            cluster = await Cluster.objects.aget(id=identity.cluster.id)
            assert cluster.conflict_at is not None
            assert "agent aaaa" in cluster.conflict_detail
            assert "agent bbbb" in cluster.conflict_detail


async def test_a_moved_agent_whose_old_tunnel_is_silent_is_not_flagged(hub, identity, target):
    async with (
        FaultProxy("127.0.0.1", hub.port) as proxy,
        asyncssh_agent(hub, identity, target, port=proxy.port, keepalive_interval=0.2),
    ):
        first = await serving(hub, identity)
        proxy.black_hole = True
        await asyncio.sleep(0.3)  # what was on its way has arrived
        moved = {"client_version": "OpsCenterAgent_0.1.0 instance=bbbb"}
        async with asyncssh_agent(hub, identity, target, **moved):
            await _ended(hub, first)
            await hub.recorder.flushed()
            assert (await Cluster.objects.aget(id=identity.cluster.id)).conflict_at is None


async def test_a_key_that_hops_between_places_is_flagged(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(LIMITS, replaced_drain_seconds=60, replacements=3)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with contextlib.AsyncExitStack() as stack:
            for number in range(5):
                version = f"OpsCenterAgent_0.1.0 instance={number % 2}"
                await stack.enter_async_context(
                    asyncssh_agent(hub, identity, target, client_version=version)
                )
            await hub.recorder.flushed()
            cluster = await Cluster.objects.aget(id=identity.cluster.id)
            assert "4 changes of place in 10 min" in cluster.conflict_detail


# --- liveness ---------------------------------------------------------------------------------

QUICK = replace(
    LIMITS,
    keepalive_seconds=0.4,
    keepalive_count=2,
    open_seconds=0.5,
    suspect_keepalive_seconds=0.15,
    suspect_keepalive_count=3,
    suspect_seconds=2,
)


@pytest.fixture
async def quick(settings, short_directory, tmp_path, transactional_db):
    """A hub whose keepalives are short, and an identity there."""
    async with running_hub(settings, short_directory, QUICK) as hub:
        yield hub, await make_identity(tmp_path, "north-1")


@pytest.mark.parametrize("direction", ["up", "down", True])
async def test_a_half_open_link_is_noticed(quick, target, direction):
    hub, identity = quick
    async with (
        FaultProxy("127.0.0.1", hub.port) as proxy,
        asyncssh_agent(hub, identity, target, port=proxy.port),
    ):
        session = await serving(hub, identity)
        assert await get_json(identity) == {"hello": "world"}
        proxy.black_hole = direction
        row = await _ended(hub, session)
        assert row.end_reason == "the agent did not answer keepalives"
        status = await ClusterStatus.objects.aget(cluster=identity.cluster)
        assert not status.tunnel_up
        with pytest.raises(ClusterUnreachableError):
            await get_json(identity)


async def test_a_frozen_stock_client_is_noticed_and_its_successor_serves(quick, target, tmp_path):
    import signal

    hub, identity = quick
    async with stock_agent(hub, identity, target, tmp_path) as process:
        first = await serving(hub, identity)
        process.send_signal(signal.SIGSTOP)
        async with asyncssh_agent(hub, identity, target):
            second = hub.registry.serving(identity.cluster.id)
            assert second is not first
            assert await get_json(identity) == {"hello": "world"}
            await _ended(hub, first)
            assert hub.registry.serving(identity.cluster.id) is second
        process.send_signal(signal.SIGCONT)


async def test_an_open_that_times_out_makes_a_dead_tunnel_end_soon(
    settings, short_directory, tmp_path, transactional_db, target
):
    """With keepalives of a quarter of a minute the hard probe alone finds out in time."""
    limits = replace(QUICK, keepalive_seconds=15)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with (
            FaultProxy("127.0.0.1", hub.port) as proxy,
            asyncssh_agent(hub, identity, target, port=proxy.port),
        ):
            session = await serving(hub, identity)
            proxy.black_hole = True
            with pytest.raises(ServiceUnavailableError, match="did not accept"):
                await get_json(identity)
            assert session.state == "suspect"
            await _ended(hub, session)
            assert hub.opener.pending == 0


async def test_a_healthy_tunnel_outlives_suspicion(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(QUICK, suspect_seconds=0.8)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with asyncssh_agent(hub, identity, target):
            session = await serving(hub, identity)
            hub.registry.suspect(session)
            assert session.state == "suspect"
            assert await get_json(identity) == {"hello": "world"}
            await until(lambda: session.state == "ready")
            await asyncio.sleep(0.5)
            assert await get_json(identity) == {"hello": "world"}


# --- the end of a right -----------------------------------------------------------------------


@pytest.fixture
def redis_url(short_directory):
    """A private redis-server on a unix socket."""
    path = short_directory / "redis.sock"
    binary = shutil.which("redis-server")
    assert binary, "redis-server is needed: apt-get install redis-server"
    process = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no",
         "--dir", str(short_directory), "--loglevel", "warning"]
    )  # fmt: skip
    url = f"unix://{path}"
    client = Redis.from_url(url)
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while not path.exists():
        assert process.poll() is None
        assert datetime.now(UTC) < deadline
    client.ping()
    client.close()
    yield url
    process.terminate()
    process.wait()


async def test_a_revocation_cuts_the_session_at_once(
    settings, short_directory, tmp_path, transactional_db, target, redis_url, admin
):
    settings.REDIS_URL = redis_url
    async with running_hub(settings, short_directory, LIMITS, redis_url=redis_url) as hub:
        identity = await make_identity(tmp_path, "north-1")
        other = await make_identity(tmp_path, "south-1")
        async with asyncssh_agent(hub, identity, target), asyncssh_agent(hub, other, target):
            session = await serving(hub, identity)
            await sync_to_async(services.revoke_cluster)(identity.cluster, actor=admin)
            row = await _ended(hub, session)
            assert row.end_reason == "revoked"
            assert await get_json(other) == {"hello": "world"}
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(hub, identity)


async def test_heartbeat_and_counters_reach_redis(
    settings, short_directory, tmp_path, transactional_db, target, redis_url
):
    async with running_hub(settings, short_directory, LIMITS, redis_url=redis_url) as hub:
        redis = Redis.from_url(redis_url)

        def beat():
            return redis.get(HEARTBEAT_KEY)

        value = await until(lambda: sync_to_async(beat)())
        assert abs(float(value) - datetime.now(UTC).timestamp()) < 60
        metrics = await sync_to_async(read_hub_metrics)(redis)
        samples = metrics[hub.config.hub_id]
        values = {(one.name, *one.labels.values()): one.value for one in samples}
        assert values["tunnel_sessions", "ready"] == 0
        assert values["hub_fds",] > 0
        redis.close()


async def test_without_redis_a_revocation_still_cuts_by_the_recheck(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(LIMITS, recheck_seconds=0.2)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with asyncssh_agent(hub, identity, target):
            session = await serving(hub, identity)
            await ClusterKey.objects.aupdate(status=ClusterKey.Status.REVOKED)
            assert (await _ended(hub, session)).end_reason == "revoked"


async def test_a_deleted_cluster_is_cut_and_leaves_no_rows(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(LIMITS, recheck_seconds=0.2)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with asyncssh_agent(hub, identity, target):
            session = await serving(hub, identity)
            await hub.recorder.flushed()
            await Cluster.objects.all().adelete()
            await until(lambda: session.state == "gone")
            await hub.recorder.flushed()
            assert not await TunnelSession.objects.aexists()


# --- the hub itself ---------------------------------------------------------------------------


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
            row = await _row(session)
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
        assert hub.context.pending_by_address == {}
        async with asyncssh_agent(hub, identity, target):
            await serving(hub, identity)
        for _, writer in silent:
            writer.close()


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


async def test_a_blocked_event_loop_loses_nobody(quick, target):
    import time

    hub, identity = quick
    async with asyncssh_agent(hub, identity, target, keepalive_interval=15):
        session = await serving(hub, identity)
        time.sleep(2)  # noqa: ASYNC251 - blocks the loop longer than all keepalives together
        await asyncio.sleep(0.5)
        assert session.state == "ready"
        assert await get_json(identity) == {"hello": "world"}


async def test_a_rekey_in_mid_transfer_changes_nothing(hub, identity, target):
    body = json.dumps(["x" * 50] * 60_000).encode()
    target.set_json("/large", body)
    async with asyncssh_agent(hub, identity, target, rekey_bytes=500_000):
        await serving(hub, identity)
        answer = await get_json(identity, "/large", max_bytes=10_000_000)
        assert json.dumps(answer).encode() == body


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


async def test_a_service_that_is_allowed_later_is_offered_again_by_the_agent(
    settings, short_directory, tmp_path, transactional_db, target, redis_url, admin
):
    settings.REDIS_URL = redis_url
    async with running_hub(settings, short_directory, LIMITS, redis_url=redis_url) as hub:
        identity = await make_identity(tmp_path, "north-1")

        async def dial():
            connection = await connect(hub, identity)
            await connection.forward_remote_port("agent", 9099, "127.0.0.1", target.port)
            try:
                await connection.forward_remote_port("prometheus", 9090, "127.0.0.1", target.port)
            except asyncssh.ChannelListenError:
                return connection, False
            return connection, True

        connection, taken = await dial()
        assert not taken
        await serving(hub, identity)
        allow = sync_to_async(services.allow_service)
        assert await allow(identity.cluster, "influxdb", actor=admin)  # not what it offered
        assert await get_json(identity) == {"hello": "world"}
        assert await allow(identity.cluster, "prometheus", actor=admin)
        await connection.wait_closed()
        connection, taken = await dial()
        assert taken
        await serving(hub, identity)
        assert await get_json(identity, service="prometheus") == {"hello": "world"}
        assert await sync_to_async(services.refuse_service)(
            identity.cluster, "prometheus", actor=admin
        )
        await until(lambda: "prometheus" not in hub.registry.serving(identity.cluster.id).allowed)
        assert await get_json(identity) == {"hello": "world"}
        connection.abort()
        await connection.wait_closed()


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


async def test_a_hub_that_is_stopped_while_it_begins_stops(
    transactional_db, settings, short_directory, limits
):
    for steps in range(12):
        async with asyncio.timeout(30), running_hub(settings, short_directory, limits):
            for _ in range(steps):
                await asyncio.sleep(0)
