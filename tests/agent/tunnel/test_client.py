"""The agent's tunnel against a real SSH server, over sockets that fail."""

from __future__ import annotations

import asyncio
import contextlib

import asyncssh
import pytest
from aiohttp import web

from agent.tunnel.backoff import TCP, WEBSOCKET, Endpoint
from agent.tunnel.client import NoHubError, Tunnel
from agent.tunnel.dial import DialError, TunnelOptions, dial
from agent.tunnel.targets import AllowList, TcpTarget, UnixTarget
from tests.agent.hub import CLUSTER_ID, FakeHub, running_hub
from tests.faultproxy import FaultProxy


@pytest.fixture
def key():
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
async def target(starts_servers):
    """A local API that answers with its path."""

    async def answer(request):
        if request.path == "/big":
            return web.Response(body=b"x" * 3_000_000)
        return web.Response(text=f"you asked {request.path}")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield TcpTarget(*runner.addresses[0][:2])
    await runner.cleanup()


@pytest.fixture
async def hub(starts_servers, key):
    async with running_hub() as hub:
        hub.know(key)
        yield hub


@contextlib.asynccontextmanager
async def running(tunnel: Tunnel):
    task = asyncio.create_task(tunnel.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def make_tunnel(hub: FakeHub, key, target, *, enrolment=None, services=None, **options) -> Tunnel:
    settings = {"first_connect_seconds": 0.0, **options}
    allow_list = services or AllowList().with_agent(target)
    return Tunnel(
        enrolment or hub.enrolment(),
        key,
        allow_list,
        TunnelOptions(**settings),
        uniform=lambda _low, high: min(high, 0.05),
    )


async def wait_until(condition, seconds=10):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a file or a log line has no event
            await asyncio.sleep(0.01)


async def dial_error(hub, key, target, **changes) -> DialError:
    enrolment = hub.enrolment(**changes)
    endpoint = (
        Endpoint(TCP, enrolment.addresses[0])
        if enrolment.addresses
        else Endpoint(WEBSOCKET, enrolment.ws_urls[0])
    )
    with pytest.raises(DialError) as caught:
        async with dial(endpoint, enrolment, key, AllowList().with_agent(target), TunnelOptions()):
            pass
    return caught.value


async def test_the_hub_reads_the_local_api_through_the_tunnel(hub, key, target):
    async with running(make_tunnel(hub, key, target, instance="0123456789abcdef", process="77")):
        await hub.wait_session()
        assert b"you asked /v1/info" in await hub.get("/v1/info")
        assert len(await hub.get("/big")) > 3_000_000
    assert hub.users == [CLUSTER_ID]
    version = hub.sessions[0].get_extra_info("client_version")
    assert version.startswith("SSH-2.0-OpsCenterAgent_")
    assert version.endswith(" process=77 instance=0123456789abcdef")
    assert hub.sessions[0].get_extra_info("send_cipher") == "aes128-gcm@openssh.com"
    assert hub.sessions[0].get_extra_info("send_compression") == "none"


async def test_the_same_works_inside_a_websocket(hub, key, target):
    enrolment = hub.enrolment(addresses=(), ws_urls=(f"ws://127.0.0.1:{hub.ws_port}/tunnel",))
    async with running(make_tunnel(hub, key, target, enrolment=enrolment)):
        await hub.wait_session()
        assert b"you asked /v1/info" in await hub.get("/v1/info")
        assert len(await hub.get("/big")) > 3_000_000
    assert hub.ws_opened == 1


async def test_a_target_may_be_a_unix_socket(hub, key, tmp_path):
    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"from the socket")
        writer.close()

    path = tmp_path / "api.sock"
    server = await asyncio.start_unix_server(answer, path)
    async with running(make_tunnel(hub, key, UnixTarget(str(path)))):
        await hub.wait_session()
        assert await hub.get() == b"from the socket"
    server.close()


async def test_only_allow_listed_services_can_be_opened(hub, key, target):
    async with running(make_tunnel(hub, key, target)):
        await hub.wait_session()
        for host, port in [("prometheus", 9090), ("agent", 22), ("127.0.0.1", target.port)]:
            with pytest.raises(asyncssh.ChannelOpenError):
                await hub.get(host=host, port=port)
        assert b"you asked" in await hub.get("/still-alive")


async def test_a_service_that_the_hub_does_not_want_stays_closed(hub, key, target, caplog):
    services = AllowList({"prometheus": target}).with_agent(target)
    async with running(make_tunnel(hub, key, target, services=services)):
        await hub.wait_session()
        await wait_until(lambda: "does not want service prometheus" in caplog.text)
        assert b"you asked" in await hub.get()


async def test_no_wanted_service_is_a_failure_with_its_reason(hub, key, target):
    hub.allowed.clear()
    error = await dial_error(hub, key, target)
    assert "accepted none of our services" in str(error)
    assert error.reached


async def test_a_wrong_host_key_is_refused_with_both_fingerprints(hub, key, target):
    expected = asyncssh.generate_private_key("ssh-ed25519")
    line = " ".join(expected.export_public_key().decode().split()[:2])
    error = await dial_error(hub, key, target, host_keys=(line,))
    assert "is not our hub" in str(error)
    assert expected.get_fingerprint() in str(error)
    assert hub.host_key.get_fingerprint() in str(error)
    assert error.reached
    assert hub.users == []  # it learnt neither who we are nor our key


async def test_a_refused_key_is_named_with_the_hubs_reason(hub, target):
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    hub.banner = "this cluster was revoked\r\n\x1b[31mred"
    error = await dial_error(hub, stranger, target)
    assert str(error).startswith("the hub refused our key: this cluster was revoked")
    assert stranger.get_fingerprint() in str(error)
    assert "\x1b" not in str(error)
    assert error.reached


async def test_something_that_is_no_hub_was_not_reached(key, target):
    async def answer(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await dial_error(FakeHub(), key, target, addresses=(f"127.0.0.1:{port}",))
    server.close()
    assert not error.reached


async def test_a_closed_port_was_not_reached(hub, key, target, unused_port):
    error = await dial_error(hub, key, target, addresses=(f"127.0.0.1:{unused_port}",))
    assert not error.reached
    assert "refused" in str(error)


async def test_a_websocket_of_somebody_else_is_named(key, target):
    async def answer(request):
        channel = web.WebSocketResponse()
        await channel.prepare(request)
        await channel.receive()
        return channel

    app = web.Application()
    app.router.add_get("/tunnel", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    error = await dial_error(FakeHub(), key, target, addresses=(), ws_urls=(f"{url}/tunnel",))
    assert "not of an Ops Center hub" in str(error)
    error = await dial_error(FakeHub(), key, target, addresses=(), ws_urls=(f"{url}/other",))
    assert "404" in str(error)
    assert not error.reached
    await runner.cleanup()


async def test_a_dropped_link_is_dialled_again(hub, key, target, tmp_path):
    ready = tmp_path / "ready"
    async with FaultProxy("127.0.0.1", hub.port) as proxy:
        enrolment = hub.enrolment(addresses=(f"127.0.0.1:{proxy.port}",))
        tunnel = make_tunnel(hub, key, target, enrolment=enrolment, ready_path=ready)
        async with running(tunnel):
            await hub.wait_session()
            await wait_until(ready.exists)
            proxy.reset_all()
            await wait_until(lambda: not ready.exists())
            await hub.wait_session()
            assert b"you asked /again" in await hub.get("/again")
            proxy.drop_all()
            await hub.wait_session()
            assert b"you asked /third" in await hub.get("/third")
        assert not ready.exists()


async def test_a_half_open_link_is_ended_by_the_keepalive(hub, key, target, caplog):
    async with FaultProxy("127.0.0.1", hub.port) as proxy:
        enrolment = hub.enrolment(addresses=(f"127.0.0.1:{proxy.port}",))
        tunnel = make_tunnel(hub, key, target, enrolment=enrolment, keepalive_seconds=0.2)
        async with running(tunnel):
            await hub.wait_session()
            proxy.black_hole = True
            await wait_until(lambda: "no tunnel" in caplog.text)
            proxy.black_hole = False
            await hub.wait_session(30)
            assert b"you asked" in await hub.get()


async def test_a_hub_that_comes_back_is_found(key, target):
    async with running_hub() as hub:
        hub.know(key)
        tunnel = make_tunnel(hub, key, target)
        async with running(tunnel):
            await hub.wait_session()
    # the same hub again, on the same port
    tunnel = make_tunnel(hub, key, target)
    async with running(tunnel):
        await asyncio.sleep(0.3)
        assert tunnel.connected_to is None
        async with running_hub(hub):
            await hub.wait_session()
            assert b"you asked" in await hub.get()


async def test_three_refusals_of_tcp_lead_to_the_websocket(hub, key, target, unused_port):
    enrolment = hub.enrolment(
        addresses=(f"127.0.0.1:{unused_port}",),
        ws_urls=(f"ws://127.0.0.1:{hub.ws_port}/tunnel",),
    )
    async with running(make_tunnel(hub, key, target, enrolment=enrolment)):
        await hub.wait_session()
        assert b"you asked" in await hub.get()
    assert hub.ws_opened == 1


async def test_a_websocket_is_left_when_tcp_works_again(hub, key, target):
    async with FaultProxy("127.0.0.1", hub.port) as proxy:
        proxy.refuse = True
        enrolment = hub.enrolment(
            addresses=(f"127.0.0.1:{proxy.port}",),
            ws_urls=(f"ws://127.0.0.1:{hub.ws_port}/tunnel",),
        )
        tunnel = make_tunnel(hub, key, target, enrolment=enrolment, tcp_probe_seconds=0.2)
        async with running(tunnel):
            await hub.wait_session()
            assert hub.ws_opened == 1
            looked = proxy.connections
            await wait_until(lambda: proxy.connections > looked)  # it looks, and stays
            assert tunnel.connected_to.transport == WEBSOCKET
            proxy.refuse = False
            await hub.wait_session()
            assert b"you asked" in await hub.get()
            assert tunnel.connected_to.transport == TCP


async def test_the_next_hub_is_dialled_when_the_first_is_away(hub, key, target, unused_port):
    enrolment = hub.enrolment(addresses=(f"127.0.0.1:{unused_port}", f"127.0.0.1:{hub.port}"))
    async with running(make_tunnel(hub, key, target, enrolment=enrolment)):
        await hub.wait_session()


async def test_without_any_hub_for_too_long_the_tunnel_gives_up(hub, key, target, unused_port):
    enrolment = hub.enrolment(addresses=(f"127.0.0.1:{unused_port}",))
    tunnel = make_tunnel(hub, key, target, enrolment=enrolment, exit_after_seconds=0.2)
    with pytest.raises(NoHubError, match=r"the last failure: .*refused"):
        await tunnel.run()


async def test_a_dead_target_is_the_hubs_open_failure_and_the_tunnel_stays(
    hub, key, target, unused_port
):
    services = AllowList({"prometheus": TcpTarget("127.0.0.1", unused_port)}).with_agent(target)
    hub.allowed.add(("prometheus", 9090))
    async with running(make_tunnel(hub, key, target, services=services)):
        await hub.wait_session()
        await wait_until(lambda: ("prometheus", 9090) in hub.forwards)
        with pytest.raises(asyncssh.ChannelOpenError, match="Connect call failed"):
            await hub.get(host="prometheus", port=9090)
        assert b"you asked" in await hub.get()


async def test_channels_are_counted_and_a_flood_is_refused(hub, key, target):
    async with running(make_tunnel(hub, key, target)):
        await hub.wait_session()
        session = hub.sessions[-1]
        held = [await session.open_connection("agent", 9099, "hub", 0) for _ in range(64)]
        with pytest.raises(asyncssh.ChannelOpenError, match="open already"):
            await session.open_connection("agent", 9099, "hub", 0)
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        for _ in range(70):  # closed ones are given back
            assert b"you asked" in await hub.get()


async def test_stopping_closes_the_connection_to_the_hub_politely(hub, key, target):
    async with running(make_tunnel(hub, key, target)):
        await hub.wait_session()
    async with asyncio.timeout(5):
        await hub.sessions[-1].wait_closed()
