"""One session with a hub: from the socket to the services that the hub accepted.

Only a hub with the pinned host key is accepted. The hub cannot open anything but the forwards that
it accepted: asyncssh refuses every other channel of a client, and each forward has one target,
fixed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncssh

from agent import __version__
from agent.state import Enrolment
from agent.tunnel.backoff import TCP, Endpoint
from agent.tunnel.egress import EgressError, open_socket, split_address
from agent.tunnel.reach import Reach
from agent.tunnel.targets import AllowList, Target, UnixTarget
from agent.tunnel.websocket import carried_by_websocket

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 20.0
KEEPALIVE_COUNT = 3
WINDOW_BYTES = 512 * 1024
"""Receive window of a channel: on a 1 Mbit/s link larger ones starve the others."""
TARGET_SECONDS = 4.0
"""Seconds within which a target must accept; below the hub's 5 s, so that the hub gets a reason."""
MAX_CHANNELS = 64
CLOSE_SECONDS = 1.0
# The client's order decides: aes128-gcm costs half the CPU of chacha20.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
KEY_EXCHANGES = ("curve25519-sha256", "curve25519-sha256@libssh.org", "mlkem768x25519-sha256")


class DialError(Exception):
    """A dial gave no working session.

    Attributes:
        reached: True if a hub answered and refused; False if no SSH server was reached.
    """

    def __init__(self, message: str, *, reached: bool) -> None:
        super().__init__(message)
        self.reached = reached


@dataclass(frozen=True, slots=True)
class TunnelOptions:
    """Options of a tunnel; times in seconds."""

    transport: str = "auto"
    first_connect_seconds: float = 5.0  # wait up to this before the first dial
    exit_after_seconds: float = 600.0  # without any hub; 0 never
    ready_path: Path | None = None
    keepalive_seconds: float = 15.0
    tcp_probe_seconds: float = 600.0  # how often to probe TCP on a WebSocket that replaces it
    instance: str = ""  # distinguishes two copies of one identity
    process: str = ""  # a random number of this start: distinguishes copies that look the same


class _Client(asyncssh.SSHClient):
    """Pins the host key and stores the hub's messages."""

    def __init__(self, pinned: frozenset[bytes]) -> None:
        self._pinned = pinned
        self.presented: str | None = None  # fingerprint of a key that is not pinned
        self.banner = ""
        self.lost: Exception | None = None

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Accept the pinned keys only."""
        del host, addr, port
        if key.public_data in self._pinned:
            return True
        self.presented = key.get_fingerprint()
        return False

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """Store the hub's reason for a refusal."""
        del lang
        self.banner = _one_line(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        """Store why the connection ended; None is a clean end."""
        self.lost = exc


class Session:
    """One connection to a hub that accepted at least one service."""

    def __init__(self, connection: asyncssh.SSHClientConnection, client: _Client) -> None:
        self.connection = connection
        self._client = client
        self.services: list[str] = []

    async def wait_closed(self) -> str:
        """Return why the session ended, once it has."""
        await self.connection.wait_closed()
        lost = self._client.lost
        return "closed by the hub" if lost is None else _one_line(str(lost)) or type(lost).__name__

    async def close(self) -> None:
        """Close the connection politely; abort it after a second."""
        self.connection.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.connection.wait_closed()
        except TimeoutError:
            self.connection.abort()


@contextlib.asynccontextmanager
async def dial(
    endpoint: Endpoint,
    enrolment: Enrolment,
    key: asyncssh.SSHKey,
    services: AllowList,
    options: TunnelOptions,
) -> AsyncIterator[Session]:
    """Yield a session with a hub in which at least one service was accepted.

    Raises:
        DialError: with the reason; also says whether a hub was reached at all.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            sock = await _carrier(stack, endpoint, enrolment.centre)
        except EgressError as exc:
            raise DialError(str(exc), reached=False) from exc
        session = await _handshake(sock, endpoint, enrolment, key, options)
        stack.push_async_callback(session.close)
        await _offer(session, services)
        yield session


async def _carrier(
    stack: contextlib.AsyncExitStack, endpoint: Endpoint, centre: Reach | None
) -> socket.socket:
    """Return a socket to the endpoint; the stack closes what is behind it."""
    if endpoint.transport != TCP:
        return await stack.enter_async_context(
            carried_by_websocket(endpoint.address, centre=centre)
        )
    try:
        host, port = split_address(endpoint.address)
    except ValueError as exc:
        raise EgressError(str(exc)) from exc
    return await open_socket(host, port, centre=centre)  # from here on it belongs to asyncssh


async def _handshake(
    sock: socket.socket,
    endpoint: Endpoint,
    enrolment: Enrolment,
    key: asyncssh.SSHKey,
    options: TunnelOptions,
) -> Session:
    """Return an authenticated session.

    Raises:
        DialError: for any failure.
    """
    pinned = frozenset(asyncssh.import_public_key(line).public_data for line in enrolment.host_keys)
    client = _Client(pinned)
    version = f"OpsCenterAgent_{__version__}"
    if options.process:
        version += f" process={options.process}"
    if options.instance:
        version += f" instance={options.instance}"
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            connection = await asyncssh.connect(
                "hub",  # a name for its log: the socket is connected already
                sock=sock,
                config=None,
                client_factory=lambda: client,
                username=enrolment.cluster_id,
                client_keys=[key],
                agent_path=None,
                known_hosts=b"",  # only the client's own check accepts keys
                server_host_key_algs=["ssh-ed25519"],
                preferred_auth=["publickey"],
                client_version=version,
                encryption_algs=list(CIPHERS),
                kex_algs=list(KEY_EXCHANGES),
                compression_algs=None,
                gss_kex=False,
                gss_auth=False,
                keepalive_interval=options.keepalive_seconds,
                keepalive_count_max=KEEPALIVE_COUNT,
                login_timeout=HANDSHAKE_SECONDS,
            )
    except TimeoutError as exc:
        msg = f"{endpoint} did not finish the SSH handshake within {HANDSHAKE_SECONDS:.0f} s"
        raise DialError(msg, reached=False) from exc
    except (OSError, asyncssh.Error) as exc:
        raise _explained(exc, endpoint, client, key, enrolment) from exc
    return Session(connection, client)


def _explained(
    exc: Exception,
    endpoint: Endpoint,
    client: _Client,
    key: asyncssh.SSHKey,
    enrolment: Enrolment,
) -> DialError:
    """Return the error of a failed handshake, which says what to do."""
    if isinstance(exc, asyncssh.HostKeyNotVerifiable):
        expected = ", ".join(
            asyncssh.import_public_key(line).get_fingerprint() for line in enrolment.host_keys
        )
        msg = (
            f"{endpoint} is not our hub: its host key is {client.presented}, expected {expected}; "
            "if the hub's key was replaced on purpose, join again"
        )
        return DialError(msg, reached=True)
    if isinstance(exc, asyncssh.PermissionDenied):
        reason = client.banner or _one_line(exc.reason)
        msg = f"the hub refused our key: {reason} (key {key.get_fingerprint()})"
        return DialError(msg, reached=True)
    reason = _one_line(str(exc)) or type(exc).__name__
    # A dead port of a load balancer shows as ConnectionLost before a banner.
    reached = isinstance(exc, asyncssh.DisconnectError) and not isinstance(
        exc, asyncssh.ConnectionLost
    )
    return DialError(f"{endpoint}: {reason}", reached=reached)


async def _offer(session: Session, services: AllowList) -> None:
    """Ask the hub for one forward per service; refused ones are logged.

    Raises:
        DialError: if it accepts none.
    """
    connection = session.connection
    gate = _ChannelGate(connection)
    for name, port, target in services.forwards():
        factory = functools.partial(gate.connect, target)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                # typed as returning a session; asyncssh awaits a coroutine too (its own do)
                await connection.create_server(
                    cast("Any", factory), name, port, encoding=None, window=WINDOW_BYTES
                )
        except asyncssh.ChannelListenError:
            logger.warning("the hub does not want service %s; it stays closed", name)
        except (TimeoutError, OSError, asyncssh.Error) as exc:
            msg = f"the hub left during set-up: {_one_line(str(exc)) or type(exc).__name__}"
            raise DialError(msg, reached=True) from exc
        else:
            session.services.append(name)
    if not session.services:
        raise DialError("the hub accepted none of our services", reached=True)


class _ChannelGate:
    """Connects the channels of one session to their targets, with a limit on their number."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection
        self._connecting = 0
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()  # asyncssh drops closed forwarders

    async def connect(self, target: Target, _host: str, _port: int) -> Any:
        """Return asyncssh's forwarder to the target; the hub's host and port are not used.

        Raises:
            asyncssh.ChannelOpenError: with a reason that the hub may show.
        """
        if self._connecting + len(self._open) >= MAX_CHANNELS:
            msg = f"{MAX_CHANNELS} channels are open already"
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, msg)
        self._connecting += 1
        forwarder: Any
        try:
            async with asyncio.timeout(TARGET_SECONDS):
                if isinstance(target, UnixTarget):
                    forwarder = await self._connection.forward_unix_connection(target.path)
                else:
                    forwarder = await self._connection.forward_connection(target.host, target.port)
        except TimeoutError as exc:
            msg = f"{target} did not accept within {TARGET_SECONDS:.0f} s"
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, msg) from exc
        finally:
            self._connecting -= 1
        self._open.add(forwarder)
        return forwarder


def _one_line(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:300]
