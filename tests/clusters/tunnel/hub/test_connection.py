"""What one SSH peer costs the hub, before and after it has signed in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import replace

import asyncssh
import pytest

from clusters.tunnel.hub.connection import MAX_BYTES, MAX_PACKETS, BoundedConnection
from tests.clusters.tunnel.conftest import (
    LIMITS,
    asyncssh_agent,
    connect,
    get_json,
    serving,
)

# The smallest packet there is: SSH_MSG_IGNORE without a text, before any encryption.
IGNORED = struct.pack(">IB", 12, 6) + b"\x02" + bytes(4) + bytes(6)


@pytest.fixture
def limits():
    """The hub's bounds in this module: nobody is cut for being slow."""
    return replace(LIMITS, key_exchange_seconds=60, login_seconds=60)


async def end_of(reader):
    """Read until the other side has closed."""
    with contextlib.suppress(ConnectionResetError):
        while await asyncio.wait_for(reader.read(1000), 15):
            pass


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"SSH-2.0-x\r\n" + IGNORED * (MAX_PACKETS + 1), id="packets"),
        pytest.param(
            b"SSH-2.0-x\r\n" + (struct.pack(">IB", 30_012, 6) + b"\x02" + bytes(30_010)) * 3,
            id="bytes",
        ),
    ],
)
async def test_who_sends_more_than_a_sign_in_needs_is_cut(hub, sent):
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(sent)
    await end_of(reader)
    writer.close()


async def test_a_flood_of_packets_keeps_no_cluster_from_signing_in(hub, identity, target):
    async def flood() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", hub.port, local_addr=("127.0.3.1", 0)
                )
                writer.write(b"SSH-2.0-x\r\n" + IGNORED * 65_536)
                await end_of(reader)
                writer.close()
            await asyncio.sleep(0.1)  # 40 connections a second: more would only be refused

    floods = [asyncio.create_task(flood()) for _ in range(4)]
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        assert await get_json(identity) == {"hello": "world"}
    for one in floods:
        one.cancel()
    await asyncio.gather(*floods, return_exceptions=True)


async def test_who_has_signed_in_may_send_more(hub, identity):
    async with await connect(hub, identity) as connection:
        for _ in range(5 * MAX_PACKETS):
            connection.send_debug("x" * (MAX_BYTES // MAX_PACKETS))
        listener = await connection.forward_remote_port("agent", 9099, "127.0.0.1", 1)
        assert listener.get_port() == 9099


async def test_a_peer_that_does_not_read_is_not_read():
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    options = asyncssh.SSHServerConnectionOptions(
        server_factory=asyncssh.SSHServer,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
    )
    transport, connection = await loop.connect_accepted_socket(
        lambda: BoundedConnection(loop, options), ours
    )

    connection.pause_writing()
    assert not transport.is_reading()
    connection.resume_writing()
    assert transport.is_reading()

    connection.abort()
    theirs.close()
