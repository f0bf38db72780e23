"""Nothing is left behind, neither here nor at the customer's, however an open ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from dataclasses import replace

import pytest

from opscenter.core.errors import ClusterUnreachableError, ServiceUnavailableError
from tests.clusters.tunnel.conftest import (
    LIMITS,
    Target,
    asyncssh_agent,
    client,
    counted,
    get_json,
    make_identity,
    open_files,
    running_hub,
    serving,
    stock_agent,
    until,
    websocket_agent,
)
from tests.faultproxy import FaultProxy

AGENTS = {
    "asyncssh": lambda *ends, **_: asyncssh_agent(*ends),
    "stock ssh": lambda *ends, path: stock_agent(*ends, path),
    "websocket": lambda *ends, **_: websocket_agent(*ends),
}


@pytest.fixture(params=AGENTS)
def agent(request, hub, identity, tmp_path):
    """Each kind of agent in turn."""
    return lambda target: AGENTS[request.param](hub, identity, target, path=tmp_path)


@pytest.fixture
def limits():
    return replace(LIMITS, open_seconds=0.4, queue_seconds=0.2)


class ClogTarget:
    """A listening socket whose queue is full: it accepts when the test says so."""

    def __init__(self):
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen(0)
        self._sock.setblocking(False)
        self.port = self._sock.getsockname()[1]
        self._fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)

    async def accept_late(self, count):
        """Free the queue, then accept what the agent opened; return those sockets."""
        loop = asyncio.get_running_loop()
        mine = {filler.getsockname() for filler in self._fillers}
        late = []
        while len(late) < count:
            sock, address = await asyncio.wait_for(loop.sock_accept(self._sock), 20)
            if address in mine:
                sock.close()
            else:
                late.append(sock)
        return late

    def close(self):
        for sock in (*self._fillers, self._sock):
            sock.close()


@pytest.fixture
def clog():
    one = ClogTarget()
    yield one
    one.close()


def open_sockets():
    """Count sockets only: database files come and go with their threads."""
    return sum(1 for name in open_files() if name.startswith("socket:"))


@contextlib.asynccontextmanager
async def nothing_left(hub):
    """Check that channels and open files are afterwards as they were before."""
    session = hub.registry.sessions()[0]
    channels = session.connection._channels
    await until(lambda: not channels)
    before = open_sockets()
    yield
    await until(lambda: not channels, what=f"no channels, but {channels}")
    await until(lambda: open_sockets() <= before, what="as few open sockets as before")
    assert (hub.opener.channels, hub.opener.pending, session.streams) == (0, 0, 0)
    assert not any(session.pending.values())
    await until(lambda: not hub.gateway.connections)


async def test_an_answered_pull_leaves_nothing(hub, identity, target, agent):
    async with agent(target):
        await serving(hub, identity)
        async with nothing_left(hub):
            for _ in range(20):
                await get_json(identity)
        await until(lambda: target.open == 0)


async def test_a_target_that_accepts_late_is_disconnected(hub, identity, clog, agent):
    async with agent(clog):
        await serving(hub, identity)
        async with nothing_left(hub):
            with pytest.raises(ServiceUnavailableError, match="did not accept within"):
                await get_json(identity)
            assert hub.opener.pending == 1  # still owned
            [sock] = await clog.accept_late(1)
            loop = asyncio.get_running_loop()
            with contextlib.closing(sock):
                sock.setblocking(False)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(loop.sock_recv(sock, 1), 10) == b""
        assert counted(hub, "tunnel_late_opens_total") == 1


async def test_a_client_that_leaves_during_the_open_leaves_nothing(hub, identity, clog, agent):
    async with agent(clog):
        await serving(hub, identity)
        async with nothing_left(hub):
            tasks = [asyncio.create_task(get_json(identity)) for _ in range(4)]
            await until(lambda: hub.opener.pending == 4)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await until(lambda: not hub.gateway.connections)
            for sock in await clog.accept_late(4):
                sock.close()


async def test_a_tunnel_that_is_lost_during_the_open_answers_at_once(hub, identity, clog, agent):
    async with agent(clog):
        session = await serving(hub, identity)
        task = asyncio.create_task(get_json(identity))
        await until(lambda: hub.opener.pending == 1)
        hub.registry.abort(session, "a test")
        with pytest.raises(ClusterUnreachableError, match="the tunnel ended"):
            await task
        assert hub.opener.pending == 0


async def test_a_target_that_refuses_leaves_nothing(hub, identity, agent):
    nobody = Target()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        nobody.port = sock.getsockname()[1]
    async with agent(nobody):
        await serving(hub, identity)
        async with nothing_left(hub):
            with pytest.raises(ServiceUnavailableError, match="agent of north-1: agent refused"):
                await get_json(identity)


async def test_random_cancels_leave_nothing(hub, identity, target):
    generator = random.Random(1)
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        async with nothing_left(hub):
            for _ in range(30):
                tasks = [asyncio.create_task(get_json(identity)) for _ in range(6)]
                for task in tasks:
                    await asyncio.sleep(generator.random() * 0.004)
                    if generator.random() < 0.7:
                        task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: target.open == 0)


async def test_stuck_opens_do_not_delay_another_service(hub, clog, target, tmp_path):
    identity = await make_identity(tmp_path, "west-1", services=["agent", "prometheus"])
    async with asyncssh_agent(hub, identity, target) as connection:
        await connection.forward_remote_port("prometheus", 9090, "127.0.0.1", clog.port)
        await serving(hub, identity)
        async with nothing_left(hub):
            stuck = [
                asyncio.create_task(get_json(identity, service="prometheus")) for _ in range(8)
            ]
            await until(lambda: hub.opener.pending == 8)
            assert await get_json(identity) == {"hello": "world"}
            await asyncio.gather(*stuck, return_exceptions=True)
            with pytest.raises(ServiceUnavailableError):
                await get_json(identity, service="prometheus")
            for sock in await clog.accept_late(8):
                sock.close()


async def test_readers_that_never_read_delay_nobody_and_are_bounded(hub, identity, target):
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    target.answers["/endless"] = endless
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        async with nothing_left(hub), contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                one = await stack.enter_async_context(client(identity, deadline_seconds=30))
                response = await one._session.get("/endless", allow_redirects=False)
                stack.callback(response.close)
            for _ in range(5):
                assert await get_json(identity) == {"hello": "world"}
        await until(lambda: target.open == 0)


@pytest.fixture
async def impatient(settings, short_directory, tmp_path, transactional_db):
    """A hub that ends streams after half a second without a byte, and an identity there."""
    limits = replace(LIMITS, idle_seconds=0.5)
    async with running_hub(settings, short_directory, limits) as hub:
        yield hub, await make_identity(tmp_path, "north-1")


async def test_a_target_that_never_reads_is_disconnected(impatient, target):
    """Its bytes wait in the tunnel, so the hub does not even see that the client has left."""
    hub, identity = impatient
    leave = asyncio.Event()

    async def deaf(writer):
        await leave.wait()

    target.answers["/deaf"] = deaf
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        async with nothing_left(hub):
            async with client(identity) as one:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await one._session.post("/deaf", data=b"x" * 10_000_000)
            await until(lambda: not hub.gateway.connections)
            leave.set()


async def test_an_idle_stream_is_ended(impatient, target):
    hub, identity = impatient
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        async with client(identity) as one:
            await one.get_json("/hello")
            assert hub.opener.channels == 1  # kept alive
            await until(lambda: hub.opener.channels == 0)
            assert counted(hub, "gateway_overdue_total", reason="idle") == 1
            assert await one.get_json("/hello") == {"hello": "world"}  # on a new one


async def test_a_tunnel_cut_in_mid_answer_is_reported_and_leaves_nothing(hub, identity, target):
    async def half(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 100\r\n\r\n[1,")
        await writer.drain()
        await asyncio.sleep(30)

    target.answers["/half"] = half
    async with FaultProxy("127.0.0.1", hub.port) as proxy:
        async with asyncssh_agent(hub, identity, target, port=proxy.port):
            await serving(hub, identity)
            task = asyncio.create_task(get_json(identity, "/half"))
            await until(lambda: hub.opener.channels == 1 and target.requests)
            await asyncio.sleep(0.1)
            proxy.reset_all()
            with pytest.raises(Exception, match="broke off") as caught:
                await task
            assert caught.value.code == "bad_response"
        await until(lambda: hub.opener.channels == 0)
        await until(lambda: not hub.gateway.connections)
