"""The project's own agent on the real hub: both ends of the protocol that docs/tunnel.md
describes."""

from __future__ import annotations

import asyncio
import contextlib

import asyncssh
import pytest

from agent.state import Enrolment, public_line
from agent.tunnel import targets
from agent.tunnel.client import Tunnel
from agent.tunnel.dial import TunnelOptions
from agent.tunnel.targets import AllowList, TcpTarget
from clusters.tunnel import protocol
from tests.clusters.tunnel.conftest import get_json, serving, until


@contextlib.asynccontextmanager
async def real_agent(hub, identity, target, transport, *, pinned=None):
    """Run the agent's tunnel until the block ends."""
    enrolment = Enrolment(
        cluster_id=identity.user,
        cluster_name=identity.cluster.name,
        addresses=(f"127.0.0.1:{hub.port}",),
        ws_urls=(f"ws://127.0.0.1:{hub.ws_port}/tunnel",),
        host_keys=(public_line(pinned or hub.config.host_key),),
        keepalive_seconds=15,
        url="http://127.0.0.1:1",
        token_digest="",
    )
    services = AllowList({"agent": TcpTarget("127.0.0.1", target.port)})
    options = TunnelOptions(
        transport=transport, first_connect_seconds=0, instance="0123456789abcdef"
    )
    tunnel = Tunnel(
        enrolment, identity.key, services, options, uniform=lambda _, high: min(high, 0.2)
    )
    task = asyncio.create_task(tunnel.run())
    try:
        yield tunnel
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("transport", "recorded"), [("tcp", "tcp"), ("ws", "wss")])
async def test_the_agent_serves_pulls_and_comes_back_after_a_cut(
    hub, identity, target, transport, recorded
):
    async with real_agent(hub, identity, target, transport):
        first = await serving(hub, identity)
        assert first.transport == recorded
        assert first.client_version.startswith("OpsCenterAgent_")
        assert first.instance == "0123456789abcdef"
        assert await get_json(identity) == {"hello": "world"}
        hub.registry.abort(first, "a test")
        second = await serving(hub, identity)
        assert second is not first
        assert second.instance == first.instance
        assert await get_json(identity) == {"hello": "world"}


async def test_the_agent_says_why_it_is_refused(hub, identity, target):
    identity.key = asyncssh.generate_private_key("ssh-ed25519")
    async with real_agent(hub, identity, target, "tcp") as tunnel:
        await until(lambda: tunnel.last_error)
        assert "the key is not registered" in tunnel.last_error


async def test_the_agent_refuses_another_host_key_and_the_hub_records_it(
    hub, identity, target, caplog
):
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    async with real_agent(hub, identity, target, "tcp", pinned=stranger) as tunnel:
        await until(lambda: tunnel.last_error)
        await until(lambda: "the client refused our host key" in caplog.text)


def test_both_ends_name_the_same_services():
    assert dict(targets.SERVICE_PORTS) == protocol.SERVICE_PORTS
