"""The path of a pull: client, gateway, tunnel, service; over every kind of agent."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async

from clusters.models import ClusterStatus, TunnelSession
from opscenter.core.errors import ClusterUnreachableError
from tests.clusters.tunnel.conftest import (
    asyncssh_agent,
    get_json,
    listening_ports,
    serving,
    stock_agent,
    until,
    websocket_agent,
)


async def test_a_pull_goes_through_our_own_agent(hub, identity, target):
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        assert await get_json(identity) == {"hello": "world"}


async def test_a_pull_goes_through_a_stock_ssh_client(hub, identity, target, tmp_path):
    async with stock_agent(hub, identity, target, tmp_path):
        await serving(hub, identity)
        assert await get_json(identity) == {"hello": "world"}


async def test_a_pull_goes_through_ssh_inside_a_websocket(hub, identity, target):
    async with websocket_agent(hub, identity, target):
        session = await serving(hub, identity)
        assert session.transport == "wss"
        assert await get_json(identity) == {"hello": "world"}


async def test_a_tunnel_opens_no_listening_socket(hub, identity, target):
    before = listening_ports()
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        assert await get_json(identity) == {"hello": "world"}
        assert listening_ports() == before
        assert 9099 not in listening_ports()


async def test_without_a_tunnel_the_cluster_is_unreachable(hub, identity):
    with pytest.raises(ClusterUnreachableError, match="agent of north-1: no tunnel is up"):
        await get_json(identity)


async def test_a_session_is_recorded_from_sign_in_to_end(hub, identity, target):
    async with asyncssh_agent(hub, identity, target):
        session = await serving(hub, identity)
        await hub.recorder.flushed()
        row = await TunnelSession.objects.aget(id=session.id)
        assert (row.state, row.transport, row.services) == ("ready", "tcp", ["agent"])
        assert row.remote_address == "127.0.0.1"
        assert row.client_version == "OpsCenterAgent_0.1.0"
        status = await ClusterStatus.objects.aget(cluster=identity.cluster)
        assert status.tunnel_up
        assert status.tunnel_since is not None
    await until(lambda: not hub.registry.sessions())
    await hub.recorder.flushed()
    row = await TunnelSession.objects.aget(id=session.id)
    assert row.state == "gone"
    assert row.ended_at is not None
    assert row.end_reason
    status = await ClusterStatus.objects.aget(cluster=identity.cluster)
    assert not status.tunnel_up
    assert status.tunnel_reason == row.end_reason


async def test_live_sessions_are_seen_again_and_again(hub, identity, target):
    async with asyncssh_agent(hub, identity, target, keepalive_interval=1):
        session = await serving(hub, identity)
        await hub.recorder.flushed()
        first = await TunnelSession.objects.aget(id=session.id)

        @sync_to_async
        def seen_later():
            row = TunnelSession.objects.get(id=session.id)
            status = ClusterStatus.objects.get(cluster=identity.cluster)
            return (
                row.seen_at > first.seen_at and status.tunnel_seen_at == row.seen_at and row.rtt_ms
            )

        await until(seen_later)
