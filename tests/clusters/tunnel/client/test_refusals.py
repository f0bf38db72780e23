"""What a peer may not do: sign in with anything but its key, request anything but its services."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import asyncssh
import pytest
from asgiref.sync import sync_to_async

from clusters.models import AuditEvent, Cluster, ClusterKey
from tests.clusters.tunnel.conftest import (
    asyncssh_agent,
    connect,
    counted,
    free_port,
    known_hosts,
    listening_ports,
    make_identity,
    run_ssh,
    serving,
    ssh_command,
    until,
)


def _refusals():
    return list(
        AuditEvent.objects.filter(action="agent.sign_in").values_list("detail__reason", flat=True)
    )


async def _refused(hub, caplog, reason):
    """Check that a refusal is logged and audited with its reason."""
    assert reason in caplog.text
    await hub.recorder.flushed()
    assert reason in await sync_to_async(_refusals)()


class Banners(asyncssh.SSHClient):
    """An agent that reads the hub's banner before a refusal."""

    def __init__(self):
        self.texts = []

    def auth_banner_received(self, msg, lang):
        self.texts.append(msg)


async def _sign_in_refused(hub, identity, **options):
    """Try to sign in; return the hub's banner."""
    banners = Banners()
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(hub, identity, client_factory=lambda: banners, **options)
    assert not hub.registry.sessions()
    return "".join(banners.texts)


async def test_an_unknown_key_is_refused_with_a_reason_at_both_ends(hub, identity, caplog):
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    banner = await _sign_in_refused(hub, identity, client_keys=[stranger])
    assert "the key is not registered" in banner
    await _refused(hub, caplog, "the key is not registered")


async def test_a_key_of_another_cluster_is_refused(hub, identity, tmp_path, caplog):
    other = await make_identity(tmp_path, "south-1")
    await _sign_in_refused(hub, identity, client_keys=[other.key])
    await _refused(hub, caplog, "the key belongs to another cluster")


async def test_a_user_name_that_is_no_cluster_is_refused(hub, identity, caplog):
    await _sign_in_refused(hub, identity, username="root")
    await _refused(hub, caplog, "the user name is not a cluster's id")


async def test_a_revoked_cluster_is_refused(hub, identity, caplog):
    await Cluster.objects.aupdate(status=Cluster.Status.REVOKED)
    banner = await _sign_in_refused(hub, identity)
    assert "the cluster is revoked" in banner
    await _refused(hub, caplog, "the cluster is revoked")


async def test_a_retired_key_is_refused(hub, identity, caplog):
    await ClusterKey.objects.aupdate(status=ClusterKey.Status.RETIRED)
    await _sign_in_refused(hub, identity)
    await _refused(hub, caplog, "the key is retired")


async def test_a_certificate_is_refused_even_of_the_registered_key(hub, identity):
    authority = asyncssh.generate_private_key("ssh-ed25519")
    for principals in ([], [identity.user]):
        certificate = authority.generate_user_certificate(
            identity.key, "an agent", principals=principals
        )
        pair = asyncssh.load_keypairs([(identity.key, certificate)])[0]
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(hub, identity, client_keys=[pair])


async def test_asking_with_a_public_key_alone_opens_no_session(hub, identity):
    """A key that is only offered, never signed with, proves nothing."""

    class Offered(asyncssh.SSHClient):
        pass

    # The client offers the key, is told that it would do, and then cannot sign.
    class Unwilling(asyncssh.SSHKeyPair):
        def sign(self, data):
            raise ValueError("no private key here")

    line = identity.key.export_public_key().decode()
    public = asyncssh.import_public_key(line)
    pair = Unwilling(
        public.algorithm, public.algorithm, public.sig_algorithms, public.sig_algorithms,
        public.public_data, b"",
    )  # fmt: skip
    with pytest.raises((asyncssh.Error, ValueError, OSError)):
        await connect(hub, identity, client_keys=[pair], client_factory=Offered)
    assert not hub.registry.sessions()
    await hub.recorder.flushed()
    assert (await ClusterKey.objects.aget(cluster=identity.cluster)).last_used_at is None


async def test_passwords_are_not_even_asked_for(hub, identity):
    methods = await asyncssh.get_server_auth_methods(
        "127.0.0.1", hub.port, identity.user, config=None
    )
    assert methods == ["publickey"]


async def test_a_wrong_host_key_is_refused_by_the_agent_and_logged_here(
    hub, identity, caplog, tmp_path
):
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        await connect(hub, identity, known_hosts=asyncssh.import_known_hosts(f"* {other}\n"))
    await until(lambda: "the client refused our host key" in caplog.text)
    assert "127.0.0.1" in caplog.text


async def test_stock_ssh_refuses_a_wrong_host_key_and_it_is_logged_here(
    hub, identity, caplog, tmp_path
):
    path = tmp_path / "known_hosts"
    command = ssh_command(hub, identity, path, "-N")
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    path.write_text(f"[127.0.0.1]:{hub.port} {other}\n")
    code, output = await run_ssh(command)
    assert code == 255
    assert "Host key verification failed" in output
    await until(lambda: "the client refused our host key" in caplog.text)


async def test_refusals_are_logged_once_a_minute_for_an_address(hub, identity, caplog):
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    for _ in range(5):
        await _sign_in_refused(hub, identity, client_keys=[stranger])
    assert caplog.text.count("the key is not registered") == 1
    assert counted(hub, "tunnel_handshakes_total", result="auth") >= 5


REFUSED_BY_STOCK_SSH = {
    "a command": (["true"], "not accepted|refused|request failed|open failed|closed"),
    "a shell": ([], "not accepted|refused|request failed|open failed|closed"),
    "a subsystem": (["-s", "sftp"], "refused|failed|closed"),
    "a terminal": (["-tt"], "refused|failed|closed"),
    "a direct connection": (["-W", "127.0.0.1:22"], "refused|failed|closed|prohibited"),
    "another service": (["-N", "-R", "mysql:3306:127.0.0.1:1"], "remote port forwarding failed"),
    "a service that is not allowed": (
        ["-N", "-R", "influxdb:8086:127.0.0.1:1"],
        "remote port forwarding failed",
    ),
    "a service on another port": (
        ["-N", "-R", "agent:9100:127.0.0.1:1"],
        "remote port forwarding failed",
    ),
    "an address": (["-N", "-R", "0.0.0.0:9099:127.0.0.1:1"], "remote port forwarding failed"),
    "no address": (["-N", "-R", "9099:127.0.0.1:1"], "remote port forwarding failed"),
    "a port of the hub's choice": (["-N", "-R", "0:127.0.0.1:1"], "remote port forwarding failed"),
    "a socket path": (["-N", "-R", "/tmp/x:127.0.0.1:1"], "forwarding failed"),
    "a network tunnel": (["-N", "-w", "0:0"], "failed|refused|tun|Tunnel"),
}


@pytest.mark.parametrize("what", REFUSED_BY_STOCK_SSH)
async def test_stock_ssh_may_not_ask_for(hub, identity, tmp_path, what):
    arguments, pattern = REFUSED_BY_STOCK_SSH[what]
    before = listening_ports()
    command = ssh_command(hub, identity, tmp_path / "known_hosts", *arguments)
    if arguments and arguments[-1] in ("true", "sftp"):  # these come after the destination
        command = [*[part for part in command if part != arguments[-1]], arguments[-1]]
    code, output = await run_ssh(command)
    assert code != 0
    import re

    assert re.search(pattern, output), output
    assert listening_ports() == before


async def test_stock_ssh_may_not_forward_ports_of_the_hub(hub, identity, target, tmp_path):
    """-L listens at the client; what it asks of the hub is a direct connection, refused."""
    port = free_port()
    forward = f"127.0.0.1:{port}:127.0.0.1:{target.port}"
    command = ssh_command(hub, identity, tmp_path / "known_hosts", "-N", "-L", forward)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        await until(hub.registry.sessions, what="a sign-in")

        async def connected():
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return None

        reader, writer = await until(connected, what="ssh listening")
        writer.write(b"GET /hello HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert target.requests == []
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize(
    "ask",
    [
        lambda conn: conn.create_process("true"),
        lambda conn: conn.create_process(term_type="xterm"),
        lambda conn: conn.start_sftp_client(),
        lambda conn: conn.open_connection("127.0.0.1", 22),
        lambda conn: conn.open_unix_connection("/run/docker.sock"),
        lambda conn: conn.create_tun(asyncssh.SSHTunTapSession),
        lambda conn: conn.create_tap(asyncssh.SSHTunTapSession),
    ],
    ids=["command", "terminal", "sftp", "direct-tcpip", "direct-unix", "tun", "tap"],
)
async def test_our_client_may_not_ask_for(hub, identity, ask):
    connection = await connect(hub, identity)
    try:
        with pytest.raises(
            (asyncssh.ChannelOpenError, asyncssh.SFTPError, asyncssh.DisconnectError)
        ):
            await ask(connection)
    finally:
        connection.abort()
        await connection.wait_closed()


@pytest.mark.parametrize(
    ("service", "port"),
    [("influxdb", 8086), ("agent", 9100), ("agent", 0), ("", 9099), ("127.0.0.1", 9099)],
)
async def test_our_client_may_not_forward(hub, identity, target, service, port):
    connection = await connect(hub, identity)
    try:
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port(service, port, "127.0.0.1", target.port)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_path("/tmp/x.sock", "/tmp/y.sock")
        assert hub.registry.serving(identity.cluster.id) is None
        assert counted(hub, "tunnel_forward_denied_total") == 1
    finally:
        connection.abort()
        await connection.wait_closed()


async def test_a_service_that_the_cluster_allows_may_be_forwarded(hub, target, tmp_path):
    identity = await make_identity(tmp_path, "west-1", services=["agent", "prometheus"])
    async with asyncssh_agent(
        hub, identity, target, service="prometheus", service_port=9090
    ) as connection:
        await connection.forward_remote_port("agent", 9099, "127.0.0.1", target.port)
        session = await serving(hub, identity)
        assert session.services == {"agent", "prometheus"}


async def test_the_hub_speaks_no_old_algorithms(hub, identity):
    for weak in (
        {"kex_algs": ["diffie-hellman-group14-sha1"]},
        {"encryption_algs": ["aes128-cbc"]},
        {"encryption_algs": ["aes128-ctr"]},
    ):
        with pytest.raises(asyncssh.KeyExchangeFailed):
            await connect(hub, identity, **weak)


async def test_garbage_before_the_sign_in_ends_only_its_own_connection(hub, identity, target):
    for garbage in (
        b"\x00" * 4096,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-x\r\n\xff\xff\xff\xff" + b"\xff" * 64,
        b"SSH-1.5-old\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(garbage)
        writer.write_eof()
        try:
            await asyncio.wait_for(reader.read(), 10)
        except ConnectionResetError as exc:
            logging.getLogger(__name__).debug("reset: %s", exc)
        writer.close()
    await until(lambda: hub.context.pending == 0)
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)


async def test_the_known_hosts_line_is_what_agents_pin(hub, identity, target):
    connection = await connect(hub, identity, known_hosts=known_hosts(hub))
    connection.abort()
    await connection.wait_closed()
