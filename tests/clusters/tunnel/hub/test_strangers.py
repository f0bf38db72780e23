"""What strangers do to a hub, and that its agents do not notice."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import aiohttp
import asyncssh
import pytest

from clusters.models import AuditEvent
from clusters.tunnel.protocol import WEBSOCKET_PROTOCOL
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


async def silent(stack, port, address, *, says=b""):
    """Open a connection from an address, say so much and then nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    stack.callback(writer.close)
    writer.write(says)
    return reader


async def is_closed(reader):
    """Wait until the other side has closed; return whether that has happened."""
    with contextlib.suppress(ConnectionResetError):
        while await asyncio.wait_for(reader.read(1000), 20):
            pass
    return True


async def test_a_cluster_signs_in_beside_160_silent_connections(hub, identity, target):
    async with contextlib.AsyncExitStack() as stack:
        for number in range(160):
            address = f"127.0.{number % 8 + 1}.1"
            await silent(stack, hub.port, address, says=b"SSH-2.0-x\r\n")
        await until(lambda: hub.context.pending == 150)
        async with asyncssh_agent(hub, identity, target):
            await serving(hub, identity)
            assert hub.context.pending >= 149  # they are all still there
            assert await get_json(identity) == {"hello": "world"}


async def test_who_sends_no_key_exchange_is_cut_long_before_the_sign_in_time(
    settings, short_directory, transactional_db, starts_servers
):
    limits = replace(LIMITS, key_exchange_seconds=0.5, login_seconds=60)
    async with (
        running_hub(settings, short_directory, limits) as hub,
        contextlib.AsyncExitStack() as stack,
    ):
        ssh = await silent(stack, hub.port, "127.0.0.1", says=b"SSH-2.0-x\r\n")
        web = await silent(stack, hub.ws_port, "127.0.0.1", says=b"GET /tun")
        assert await is_closed(ssh)
        assert await is_closed(web)
        assert counted(hub, "tunnel_handshakes_total", result="silent") == 1
        assert hub.context.pending == 0


@pytest.mark.parametrize("port", ["port", "ws_port"])
async def test_of_30_connections_of_one_address_20_are_left(hub, port):
    async with contextlib.AsyncExitStack() as stack:
        readers = [await silent(stack, getattr(hub, port), "127.0.0.1") for _ in range(30)]
        await until(lambda: hub.door.held("127.0.0.1") == 20)
        assert all([await is_closed(reader) for reader in readers[20:]])
        assert hub.context.pending == 20


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /tunnel HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
        (b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", b"404"),
        (b"POST /tunnel HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"405"),
        (b"rubbish\r\n\r\n", b"400"),
    ],
)
async def test_an_answer_that_is_no_websocket_ends_the_connection(hub, request_, status):
    async with contextlib.AsyncExitStack() as stack:
        reader = await silent(stack, hub.ws_port, "127.0.0.1", says=request_)
        answer = await asyncio.wait_for(reader.read(), 20)  # to its end
        assert answer.split(b" ", 2)[1] == status
        await until(lambda: hub.context.pending == 0)


async def test_behind_a_trusted_proxy_one_address_keeps_nobody_else_out(
    settings, short_directory, tmp_path, transactional_db, target
):
    async with running_hub(
        settings, short_directory, LIMITS, trusted_proxies=("127.0.0.1",)
    ) as hub:
        url = f"http://127.0.0.1:{hub.ws_port}/tunnel"
        async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:

            async def dial(address):
                return await stack.enter_async_context(
                    session.ws_connect(
                        url, protocols=(WEBSOCKET_PROTOCOL,),
                        headers={"X-Forwarded-For": f"10.9.9.9, {address}"},
                    )
                )  # fmt: skip

            for _ in range(20):
                await dial("192.0.2.1")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await dial("192.0.2.1")
            assert refused.value.status == 503
            other = await dial("192.0.2.2")
            assert (await other.receive()).data.startswith(b"SSH-2.0-OpsCenter")
            assert hub.door.held("192.0.2.1") == 20
            assert hub.door.held("127.0.0.1") == 0
            assert hub.context.proxies.last_unknown_s is None


async def test_a_forwarded_address_of_a_peer_that_is_not_trusted_is_noted_and_ignored(hub):
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://127.0.0.1:{hub.ws_port}/tunnel", protocols=(WEBSOCKET_PROTOCOL,),
            headers={"X-Forwarded-For": "192.0.2.1"},
        ),
    ):  # fmt: skip
        assert hub.context.proxies.last_unknown_s is not None
        assert hub.door.held("127.0.0.1") == 1
        assert hub.door.held("192.0.2.1") == 0


async def test_an_agents_address_is_known_again_after_a_restart(
    settings, short_directory, tmp_path, transactional_db, target
):
    async with running_hub(settings, short_directory, LIMITS) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with asyncssh_agent(hub, identity, target):
            await serving(hub, identity)
            await hub.recorder.flushed()
    async with running_hub(settings, short_directory, LIMITS) as hub:
        assert hub.door.is_known("127.0.0.1")
        assert not hub.door.is_known("127.0.0.2")


async def test_many_keys_on_one_connection_are_not_looked_up(hub, identity, target):
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(12)]
    looked_up = []
    admit = hub.context.admit

    async def counting(cluster_id, fingerprint):
        looked_up.append(fingerprint)
        return await admit(cluster_id, fingerprint)

    hub.context.admit = counting
    with pytest.raises((asyncssh.Error, OSError)):
        await connect(hub, identity, client_keys=keys)
    assert len(looked_up) == LIMITS.keys_offered


async def test_refused_sign_ins_have_60_audit_lines_a_minute_and_a_number(hub):
    for number in range(200):
        hub.recorder.refused(f"user {number}", f"192.0.2.{number}", "the key is not registered")
    await hub.recorder.finish(20)
    lines = [event async for event in AuditEvent.objects.filter(action="agent.sign_in")]
    assert len(lines) == 61
    reasons = [event.detail["reason"] for event in lines]
    assert "140 more sign-ins were refused, too many for a line each" in reasons
