"""Connections out: directly, and through real CONNECT proxies."""

from __future__ import annotations

import asyncio
import base64

import asyncssh
import pytest

from agent.tunnel.backoff import Endpoint
from agent.tunnel.dial import DialError, TunnelOptions, dial
from agent.tunnel.egress import EgressError, open_socket, proxy_for, split_address
from agent.tunnel.reach import Reach
from agent.tunnel.targets import AllowList, TcpTarget
from agent.tunnel.websocket import carried_by_websocket
from tests.agent.hub import running_hub
from tests.agent.tls import make_tls


class ConnectProxy:
    """A small HTTP proxy that knows CONNECT and resolves every name to loopback."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", user: str = "") -> None:
        self.answer = answer
        self.user = user
        self.asked: list[str] = []
        self.port = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        verb, target, _ = head.split(" ", 2)
        self.asked.append(f"{verb} {target}")
        wanted = "Basic " + base64.b64encode(self.user.encode()).decode()
        if self.user and f"Proxy-Authorization: {wanted}\r\n" not in head:
            writer.write(b"HTTP/1.1 407 Who are you?\r\n\r\n")
            writer.close()
            return
        port = int(target.rpartition(":")[2])
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        # The hub's banner rides in the same packet as the proxy's answer.
        banner = b"" if target.startswith("ws.") else await up_reader.read(1)
        writer.write(self.answer + banner)

        async def pump(source, sink):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(
            pump(reader, up_writer), pump(up_reader, writer), return_exceptions=True
        )


@pytest.fixture
def key():
    return asyncssh.generate_private_key("ssh-ed25519")


async def reach(hub, key, endpoint):
    services = AllowList().with_agent(TcpTarget("127.0.0.1", 1))
    async with dial(endpoint, hub.enrolment(), key, services, TunnelOptions()) as session:
        assert session.services == ["agent"]


@pytest.mark.usefixtures("starts_servers")
async def test_ssh_goes_through_the_proxy_of_the_environment(key, monkeypatch):
    async with running_hub() as hub, ConnectProxy(user="me:p@ss") as proxy:
        hub.know(key)
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        await reach(hub, key, Endpoint("tcp", f"hub.customer.example:{hub.port}"))
        assert proxy.asked == [f"CONNECT hub.customer.example:{hub.port}"]


@pytest.mark.usefixtures("starts_servers")
async def test_a_websocket_over_tls_goes_through_the_proxy_too(key, monkeypatch, tmp_path):
    server_tls, authority = make_tls(tmp_path, "ws.customer.example")
    async with running_hub(tls=server_tls) as hub, ConnectProxy() as proxy:
        hub.know(key)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        endpoint = Endpoint("ws", f"wss://ws.customer.example:{hub.ws_port}/tunnel")
        with pytest.raises(DialError, match="certificate"):
            await reach(hub, key, endpoint)  # the server's authority is not trusted yet
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        await reach(hub, key, endpoint)
        assert proxy.asked == [f"CONNECT ws.customer.example:{hub.ws_port}"] * 2


async def test_no_proxy_and_loopback_go_directly(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", ".inside.example,other:2222")
    assert proxy_for("hub.example", 2222).url == "http://proxy:3128"
    assert proxy_for("hub.inside.example", 2222) is None
    assert proxy_for("other", 2222) is None
    for loopback in ("127.0.0.1", "localhost", "::1"):
        assert proxy_for(loopback, 2222) is None


@pytest.mark.parametrize(
    ("host", "directly"),
    [
        ("10.20.0.5", True),
        ("172.16.9.9", True),
        ("192.0.2.7", False),
        ("fd00::5", True),
        ("fd01::5", False),
        ("2001:db8::1", True),
        ("hub.inside.example", True),
        ("HUB.Inside.Example.", True),
        ("notinside.example", False),
        ("plain", True),
        ("v6.example", False),
        ("fd02::7", True),
        ("10.example", False),  # a name is not looked up
    ],
)
async def test_networks_in_no_proxy_are_gone_to_directly(monkeypatch, host, directly):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv(
        "no_proxy",
        "localhost,10.0.0.0/8,172.16.9.1/16 .inside.example plain,[fd00::]/16,[fd02::7]:2222,"
        "2001:db8::/32,1.2.3.4/99,/8,x/y",
    )
    proxy = proxy_for(host, 2222)
    assert (proxy is None) == directly


async def test_without_a_port_the_proxys_scheme_decides(monkeypatch):
    monkeypatch.setenv("https_proxy", "proxy.example")
    assert proxy_for("hub", 1).url == "http://proxy.example:80"


@pytest.mark.parametrize("value", ["socks5://proxy:1080", "http://", "http://proxy:notaport"])
async def test_a_proxy_that_cannot_be_used_is_named(monkeypatch, value):
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(EgressError, match="https_proxy"):
        proxy_for("hub.example", 2222)


@pytest.mark.usefixtures("starts_servers")
async def test_a_proxys_refusal_is_reported_without_its_credentials(monkeypatch):
    async with ConnectProxy(user="right:one") as proxy:
        monkeypatch.setenv("https_proxy", f"http://wrong:secret@127.0.0.1:{proxy.port}")
        with pytest.raises(EgressError, match="407 Who are you") as caught:
            await open_socket("hub.example", 2222)
        assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("starts_servers")
async def test_a_proxy_that_closes_or_babbles_is_an_error(monkeypatch):
    async def babble(reader, writer):
        writer.write(b"x" * 20_000)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(EgressError):
        await open_socket("hub.example", 2222)
    server.close()


async def test_a_name_without_an_address_is_reported():
    with pytest.raises(EgressError, match=r"no-such-host\.invalid"):
        await open_socket("no-such-host.invalid", 2222)


@pytest.mark.parametrize("text", ["", "host", ":22", "host:", "host:0", "host:65536", "a b:1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="is not host:port"):
        split_address(text)


def test_addresses_are_split():
    assert split_address("hub:2222") == ("hub", 2222)
    assert split_address("[2001:db8::1]:22") == ("2001:db8::1", 22)


@pytest.mark.usefixtures("starts_servers")
async def test_a_name_that_leads_into_this_machine_is_not_dialled_for_a_centre_far_away():
    async with running_hub() as hub:
        for centre in (Reach.INTERNET, Reach.NETWORK):
            with pytest.raises(EgressError, match="it is this machine, and the centre is not"):
                await open_socket("localhost", hub.port, centre=centre)
            with pytest.raises(EgressError, match="it is this machine, and the centre is not"):
                async with carried_by_websocket(f"ws://localhost:{hub.port}/", centre=centre):
                    pass
        (await open_socket("localhost", hub.port, centre=Reach.MACHINE)).close()
        assert hub.ws_opened == 0


@pytest.mark.usefixtures("starts_servers")
async def test_a_redirect_of_the_hub_leads_no_nearer_either():
    async def elsewhere(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
        )
        writer.close()

    server = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(EgressError, match=r"169\.254\.169\.254 is not dialled"):
        async with carried_by_websocket(f"ws://127.0.0.1:{port}/", centre=Reach.MACHINE):
            pass
    server.close()


@pytest.mark.usefixtures("starts_servers")
async def test_an_agent_that_joined_a_centre_far_away_never_dials_its_own_machine(key):
    async with running_hub() as hub:
        hub.know(key)
        enrolment = hub.enrolment(centre=Reach.INTERNET)
        endpoint = Endpoint("tcp", enrolment.addresses[0])
        with pytest.raises(DialError, match="it is this machine"):
            async with dial(endpoint, enrolment, key, AllowList(), TunnelOptions()):
                pass
        assert hub.sessions == []
