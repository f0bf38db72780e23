"""What the gateway itself answers, and which clients it makes wait."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from clusters.tunnel.gateway_tokens import issue_token
from opscenter.core.errors import (
    ServiceUnavailableError,
)
from tests.clusters.tunnel.conftest import (
    LIMITS,
    asyncssh_agent,
    free_port,
    get_json,
    running_hub,
    serving,
    until,
)


async def _ask(settings, request):
    """Send raw bytes to the gateway; return its status and its code."""
    reader, writer = await asyncio.open_unix_connection(
        settings.GATEWAY_URL.removeprefix("unix://")
    )
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()
    lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split()[1]), fields.get("x-tunnel-error")


def _connect(target, token=None):
    line = f"Proxy-Authorization: Bearer {token}\r\n" if token else ""
    return f"CONNECT {target} HTTP/1.1\r\n{line}\r\n".encode()


async def test_the_gateway_answers_by_its_table(hub, identity, tunnel, settings):
    me = identity.cluster.id
    host = f"agent.{me}:9099"
    good = issue_token(me, "agent")
    other = "6f9619ff-8b86-4d01-b42d-00c04fc964ff"
    table = {
        b"GET /hello HTTP/1.1\r\n\r\n": (400, "bad_request"),
        b"\xff\xfe\r\n\r\n": (400, "bad_request"),
        b"CONNECT " + b"x" * 20_000: (400, "bad_request"),
        _connect("127.0.0.1:22", good): (400, "bad_request"),
        _connect(f"agent.{me}:22", good): (400, "bad_request"),
        _connect(f"mysql.{me}:3306", good): (400, "bad_request"),
        _connect(host): (407, "token"),
        _connect(host, "forged"): (407, "token"),
        _connect(host, good[:-1] + ("A" if good[-1] != "A" else "B")): (407, "token"),
        _connect(host, issue_token(me, "influxdb")): (403, "not_allowed"),
        _connect(host, issue_token(UUID(other), "agent")): (403, "not_allowed"),
        _connect(f"influxdb.{me}:8086", issue_token(me, "influxdb")): (403, "not_allowed"),
        _connect(f"agent.{other}:9099", issue_token(UUID(other), "agent")): (
            404,
            "unknown_cluster",
        ),
        _connect(host, good): (200, None),
    }
    for request, answer in table.items():
        assert await _ask(settings, request) == answer, request[:100]


async def test_a_token_expires(hub, identity, tunnel, settings, time_machine):
    token = issue_token(identity.cluster.id, "agent")
    time_machine.move_to(datetime.now(UTC) + timedelta(minutes=6))
    request = _connect(f"agent.{identity.cluster.id}:9099", token)
    assert await _ask(settings, request) == (407, "token")


@pytest.mark.usefixtures("starts_servers")
async def test_a_silent_client_is_disconnected(settings, short_directory, transactional_db):
    limits = replace(LIMITS, head_seconds=0.2)
    async with running_hub(settings, short_directory, limits):
        assert await _ask(settings, b"CONNECT ") == (400, "bad_request")


async def test_more_streams_than_allowed_are_refused_after_a_moment(hub, identity, tunnel, target):
    async def waiting(writer):
        await asyncio.sleep(5)

    target.answers["/waiting"] = waiting
    tasks = [asyncio.create_task(get_json(identity, "/waiting")) for _ in range(8)]
    await until(lambda: hub.opener.channels == 8)
    with pytest.raises(ServiceUnavailableError, match="8 streams are open on this tunnel"):
        await get_json(identity)
    tasks[0].cancel()
    assert await get_json(identity) == {"hello": "world"}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: hub.opener.channels == 0)


async def test_a_service_that_failed_again_and_again_is_left_alone_for_a_while(
    hub, identity, target
):
    port, target.port = target.port, 1
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        for _ in range(3):
            with pytest.raises(ServiceUnavailableError, match="refused"):
                await get_json(identity)
        with pytest.raises(ServiceUnavailableError, match="failed 3 times in a row"):
            await get_json(identity)
    target.port = port
    async with asyncssh_agent(hub, identity, target):  # a new tunnel starts afresh
        await serving(hub, identity)
        assert await get_json(identity) == {"hello": "world"}


async def test_after_a_while_one_try_is_let_through(hub, identity, target):
    port, target.port = target.port, free_port()
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        for _ in range(3):
            with pytest.raises(ServiceUnavailableError, match="refused"):
                await get_json(identity)
        server = await asyncio.start_server(target.serve, "127.0.0.1", target.port)
        async with server:  # the service is back on the same tunnel

            async def answered():
                try:
                    return await get_json(identity)
                except ServiceUnavailableError:
                    return None

            assert await until(answered) == {"hello": "world"}
            assert await get_json(identity) == {"hello": "world"}
    assert port != target.port
