"""A revocation cuts sessions, at once or at the next check; a service allowed later is offered."""

from __future__ import annotations

from dataclasses import replace

import asyncssh
import pytest
from asgiref.sync import sync_to_async

from clusters import services
from clusters.models import Cluster, ClusterKey, TunnelSession
from tests.clusters.tunnel.conftest import (
    LIMITS,
    asyncssh_agent,
    connect,
    get_json,
    make_identity,
    running_hub,
    serving,
    until,
)
from tests.clusters.tunnel.hub.conftest import ended


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
            row = await ended(hub, session)
            assert row.end_reason == "revoked"
            assert await get_json(other) == {"hello": "world"}
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(hub, identity)


async def test_without_redis_a_revocation_still_cuts_by_the_recheck(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(LIMITS, recheck_seconds=0.2)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with asyncssh_agent(hub, identity, target):
            session = await serving(hub, identity)
            await ClusterKey.objects.aupdate(status=ClusterKey.Status.REVOKED)
            assert (await ended(hub, session)).end_reason == "revoked"


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
