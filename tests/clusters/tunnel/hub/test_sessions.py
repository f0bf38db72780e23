"""Which session serves, which drains, and how a dead or a duplicate one is detected."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from clusters.models import ClusterStatus
from opscenter.core.errors import (
    ClusterUnreachableError,
    ConsentOffError,
    ServiceUnavailableError,
)
from tests.clusters.tunnel.conftest import (
    LIMITS,
    asyncssh_agent,
    connect,
    get_json,
    make_identity,
    running_hub,
    serving,
    stock_agent,
    until,
)
from tests.clusters.tunnel.hub.conftest import ended
from tests.faultproxy import FaultProxy

# --- one cluster, several sessions ------------------------------------------------------------


async def test_the_newest_session_serves_and_the_older_drains_and_ends(hub, identity, target):
    async with asyncssh_agent(hub, identity, target):
        first = await serving(hub, identity)
        async with asyncssh_agent(hub, identity, target):
            await until(lambda: first.state == "draining")
            second = hub.registry.serving(identity.cluster.id)
            assert second is not first
            assert await get_json(identity) == {"hello": "world"}
            assert (await ended(hub, first)).end_reason == "replaced by a newer session"
            assert hub.registry.sessions() == [second]
            assert await get_json(identity) == {"hello": "world"}


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
        assert "two newer sessions" in (await ended(hub, sessions[0])).end_reason
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
        await ended(hub, first)
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
        row = await ended(hub, session)
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
            await ended(hub, first)
            assert hub.registry.serving(identity.cluster.id) is second
        process.send_signal(signal.SIGCONT)


async def test_an_open_that_times_out_makes_a_dead_tunnel_end_soon(
    settings, short_directory, tmp_path, transactional_db, target
):
    """With keepalives every 15 s, only the fast probe detects it in time."""
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
            await ended(hub, session)
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


async def test_a_blocked_event_loop_loses_nobody(quick, target):
    import time

    hub, identity = quick
    async with asyncssh_agent(hub, identity, target, keepalive_interval=15):
        session = await serving(hub, identity)
        time.sleep(2)  # noqa: ASYNC251 - blocks the loop longer than all keepalives together
        await asyncio.sleep(0.5)
        assert session.state == "ready"
        assert await get_json(identity) == {"hello": "world"}
