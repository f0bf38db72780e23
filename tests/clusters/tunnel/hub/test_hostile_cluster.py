"""What the holder of one cluster's key does to a hub, and that no other cluster notices."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import asyncssh
import pytest
from asgiref.sync import sync_to_async

from clusters.models import ClusterStatus, TunnelSession
from clusters.tunnel.hub import session_log
from opscenter.core.errors import ClusterUnreachableError, ServiceUnavailableError
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
)
from tests.clusters.tunnel.hub.conftest import ended


@pytest.fixture
async def evil(hub, tmp_path):
    return await make_identity(tmp_path, "evil-1", services=["agent", "prometheus"])


async def is_up(identity):
    status = await ClusterStatus.objects.aget(cluster=identity.cluster)
    return status.tunnel_up


@contextlib.contextmanager
def recorded_writes(monkeypatch):
    """Yield the clusters of all writes, in their order."""
    clusters = []
    write = session_log.write_sessions

    def counting(cluster_id, sessions, **more):
        clusters.append(cluster_id)
        return write(cluster_id, sessions, **more)

    monkeypatch.setattr(session_log, "write_sessions", counting)
    yield clusters


async def test_10_000_changes_of_one_cluster_are_a_few_writes_and_delay_no_other(
    hub, identity, evil, target, monkeypatch
):
    async with asyncssh_agent(hub, evil, target):
        noisy = await serving(hub, evil)
        await hub.recorder.flushed()
        with recorded_writes(monkeypatch) as writes:
            for number in range(10_000):
                if number == 5_000:
                    agent = asyncssh_agent(hub, identity, target)
                    await agent.__aenter__()
                hub.registry.service_removed(noisy, "agent")
                hub.registry.service_added(noisy, "agent")
                if number % 100 == 0:
                    await asyncio.sleep(0)
            await until(lambda: is_up(identity), what="the other cluster's tunnel in the database")
            # It was written in its turn: at most one write of the noisy cluster was before it.
            assert identity.cluster.id in writes
            await hub.recorder.flushed()
            assert len(writes) < 20
            assert [one.state async for one in TunnelSession.objects.filter(
                cluster=evil.cluster)] == ["ready"]  # fmt: skip
        await agent.__aexit__(None, None, None)


async def test_the_33rd_forward_request_ends_the_session_with_a_reason_that_its_log_has(
    hub, evil, target
):
    class Client(asyncssh.SSHClient):
        lost = None

        def connection_lost(self, exc):
            Client.lost = exc

    connection = await connect(hub, evil, client_factory=Client)
    await connection.forward_remote_port("agent", 9099, "127.0.0.1", target.port)
    for _ in range(31):
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("x", 1, "127.0.0.1", target.port)
    [session] = hub.registry.of_cluster(evil.cluster.id)
    assert session.state == "ready"
    with pytest.raises(asyncssh.ChannelListenError):
        await connection.forward_remote_port("x", 1, "127.0.0.1", target.port)
    await connection.wait_closed()
    reason = "too many forward requests: at most 32 in one session"
    assert reason in str(Client.lost)
    assert (await ended(hub, session)).end_reason == reason


async def test_1_000_forwards_that_are_refused_are_one_line(hub, evil, caplog):
    connection = await connect(hub, evil)
    tasks = [
        asyncio.ensure_future(connection.forward_remote_port(f"x{number}", 9090, "127.0.0.1", 9))
        for number in range(1000)
    ]
    await asyncio.gather(*tasks, return_exceptions=True)
    await connection.wait_closed()
    lines = [one for one in caplog.messages if "which is not allowed" in one]
    assert len(lines) == 1


async def test_the_7th_sign_in_of_a_minute_is_refused_before_the_look_up(
    hub, identity, evil, target
):
    looked_up = []
    admit = hub.context.admit

    async def counting(cluster_id, fingerprint):
        looked_up.append(cluster_id)
        return await admit(cluster_id, fingerprint)

    hub.context.admit = counting
    for _ in range(6):
        connection = await connect(hub, evil)
        connection.abort()
        await connection.wait_closed()
    assert looked_up == [evil.cluster.id] * 6
    for _ in range(3):
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(hub, evil)
    assert looked_up == [evil.cluster.id] * 6
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)


async def test_nobody_uses_up_the_sign_ins_of_a_cluster_without_its_key(
    hub, identity, evil, target
):
    for _ in range(8):
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(hub, identity, client_keys=[evil.key])
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)


async def test_one_cluster_takes_no_more_than_its_share_of_the_channels(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(LIMITS, channels=5, channels_per_cluster=3, open_seconds=30)
    release = asyncio.Event()

    async def held(writer):
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 1\r\n\r\n7")

    target.answers["/held"] = held
    async with running_hub(settings, short_directory, limits) as hub:
        one = await make_identity(tmp_path, "one")
        two = await make_identity(tmp_path, "two")
        async with asyncssh_agent(hub, one, target), asyncssh_agent(hub, two, target):
            await serving(hub, one)
            await serving(hub, two)
            pulls = [asyncio.ensure_future(get_json(one, "/held")) for _ in range(3)]
            await until(lambda: hub.opener.channels == 3)
            with pytest.raises(ServiceUnavailableError, match="at most 3 for one cluster"):
                await get_json(one)
            assert await get_json(two) == {"hello": "world"}
            release.set()
            assert await asyncio.gather(*pulls) == [7, 7, 7]
            await until(lambda: hub.opener.channels == 0)
            assert await get_json(one) == {"hello": "world"}


async def test_a_tunnel_that_went_and_came_back_between_two_writes_is_up_since_then(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(LIMITS, write_seconds=3600)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with asyncssh_agent(hub, identity, target):
            first = await serving(hub, identity)
            await hub.recorder.flushed()
            assert await is_up(identity)
        await until(lambda: first.state == "gone")
        async with asyncssh_agent(hub, identity, target):
            second = await serving(hub, identity)
            await hub.recorder.flushed()
            status = await ClusterStatus.objects.aget(cluster=identity.cluster)
            assert status.tunnel_up
            assert status.tunnel_since >= second.connected_at
            rows = TunnelSession.objects.filter(cluster=identity.cluster).order_by("connected_at")
            assert [row.state async for row in rows] == ["gone", "ready"]


async def test_what_cannot_be_written_waits_and_loses_nobody(hub, identity, target, monkeypatch):
    from django.db import OperationalError

    failing = True
    write = session_log.write_sessions

    def refusing(*args, **more):
        if failing:
            raise OperationalError("database is locked")
        return write(*args, **more)

    monkeypatch.setattr(session_log, "write_sessions", refusing)
    monkeypatch.setattr("clusters.tunnel.hub.recorder._RETRY_SECONDS", 0.05)
    async with asyncssh_agent(hub, identity, target):
        session = await serving(hub, identity)
        await until(lambda: hub.recorder.failures > 2)
    await until(lambda: session.state == "gone")
    failing = False
    row = await ended(hub, session)
    assert row.ended_at is not None
    assert not await is_up(identity)
    with pytest.raises(ClusterUnreachableError):
        await get_json(identity)
    assert counted(hub, "tunnel_sign_ins_total") == 1
    assert await sync_to_async(TunnelSession.objects.count)() == 1
