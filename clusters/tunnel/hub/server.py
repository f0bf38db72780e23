"""One SSH connection: who may sign in, what may be requested, and every refusal.

A peer may do exactly one thing: offer its cluster's allowed services as remote forwards. The
listener behind a forward is an object, never a socket; only the gateway opens channels to it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncssh

from clusters.tunnel.counters import Counters
from clusters.tunnel.hub.connection_stats import Link, TcpLink, bound_unacknowledged
from clusters.tunnel.hub.limits import Limits
from clusters.tunnel.hub.refusals import Refusal
from clusters.tunnel.hub.session_log import Admission
from clusters.tunnel.hub.sessions import Registry, Session
from clusters.tunnel.protocol import CIPHERS, KEX_ALGORITHMS, MACS, SERVICE_PORTS
from opscenter.core.log_limits import RateLimitedLog
from opscenter.core.text import one_line

logger = logging.getLogger(__name__)

Admit = Callable[[UUID, str], Awaitable[Admission]]


@dataclass(eq=False)
class HubContext:
    """What every connection of the hub shares: limits, look-ups, and the count of handshakes."""

    limits: Limits
    registry: Registry
    counters: Counters
    admit: Admit
    refused: Callable[[str, str, str], None]  # cluster id as given, address, reason
    accepting: bool = True
    pending: int = 0
    pending_by_address: dict[str, int] = field(default_factory=dict)
    log: RateLimitedLog = field(default_factory=RateLimitedLog)

    def begin_handshake(self, address: str) -> bool:
        """Count a handshake in; False when the hub or the address has too many unfinished ones."""
        limits = self.limits
        mine = self.pending_by_address.get(address, 0)
        if (
            not self.accepting
            or self.pending >= limits.pending_handshakes
            or mine >= limits.pending_handshakes_per_address
        ):
            self.counters.handshakes.labels(result="shed").inc()
            return False
        self.pending += 1
        self.pending_by_address[address] = mine + 1
        return True

    def end_handshake(self, address: str) -> None:
        """Count a handshake out, signed in or not."""
        self.pending -= 1
        left = self.pending_by_address[address] - 1
        if left:
            self.pending_by_address[address] = left
        else:
            del self.pending_by_address[address]

    def refuse(self, user: str, address: str, fingerprint: str, reason: Refusal) -> None:
        """Log a refused sign-in, at most once a minute for each address and reason."""
        self.counters.handshakes.labels(result="auth").inc()
        if not self.log.admit(address, reason):
            return
        logger.warning(
            "sign-in refused: %s (user %r, key %s, from %s)",
            reason,
            user,
            fingerprint or "none",
            address,
        )
        self.refused(user, address, reason)


class ServiceListener(asyncssh.SSHListener):
    """A named service that a session offers. It listens nowhere; closing withdraws it."""

    def __init__(self, registry: Registry, session: Session, service: str) -> None:
        super().__init__()
        self._registry = registry
        self._session = session
        self._service = service

    def get_port(self) -> int:
        """Return the service's well-known port."""
        return SERVICE_PORTS[self._service]

    def close(self) -> None:
        """Withdraw the service."""
        self._registry.service_removed(self._session, self._service)

    async def wait_closed(self) -> None:
        """Return at once: nothing was opened."""


class HubServer(asyncssh.SSHServer):
    """The server side of one connection."""

    def __init__(self, context: HubContext, *, transport: str = "tcp", address: str = "") -> None:
        self._context = context
        self._transport = transport
        self._address = address  # given for a WebSocket, whose socket pair has none
        self._connection: asyncssh.SSHServerConnection | None = None
        self._link: Link | None = None
        self._entered = False
        self._user = ""
        # What was looked up last: the user name and the key's fingerprint, and the answer to both.
        # A peer may change the name between its query and its signature.
        self._offered: tuple[tuple[str, str], Admission] | None = None
        self.session: Session | None = None

    def use_link(self, link: Link) -> None:
        """Take the link of a WebSocket instead of the socket's."""
        self._link = link

    # --- the connection -----------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Shed the connection before any cryptography when too many are unfinished."""
        self._connection = conn
        if self._transport == "tcp":
            self._address = str(conn.get_extra_info("peername", ("",))[0])
            sock = conn.get_extra_info("socket")
            self._link = TcpLink(sock)
            bound_unacknowledged(sock, self._context.limits.keepalive_seconds * 3)
        if not self._context.begin_handshake(self._address):
            conn.abort()
            return
        self._entered = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the session, or record why there never was one."""
        if self._entered:
            self._leave()
            self._explain_unfinished(exc)
        if self.session is not None:
            self._context.registry.remove(self.session, _describe_end(exc))

    def _leave(self) -> None:
        self._entered = False
        self._context.end_handshake(self._address)

    def _explain_unfinished(self, exc: Exception | None) -> None:
        conn = self._connection
        counters = self._context.counters
        if exc is not None and "Login timeout" in str(exc):
            counters.handshakes.labels(result="timeout").inc()
        elif isinstance(exc, asyncssh.HostKeyNotVerifiable) or (
            # It has our key exchange answer, which carries the host key, and left silently.
            conn is not None and not self._user and conn.get_extra_info("send_cipher") is not None
        ):
            self._context.refuse(self._user, self._address, "", Refusal.HOST_KEY)
        else:
            counters.handshakes.labels(result="gone").inc()

    # --- who it is ----------------------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        """Demand a key from everybody."""
        self._user = one_line(username, 100)
        return True

    def public_key_auth_supported(self) -> bool:
        """Accept registered public keys: the only way in."""
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Look the key up; called with and without a signature, so it changes nothing."""
        fingerprint = key.get_fingerprint()
        claim = (username, fingerprint)
        if self._offered is None or self._offered[0] != claim:
            self._offered = (claim, await self._fetch_admission(username, fingerprint))
        admission = self._offered[1]
        if not admission.allowed:
            reason = admission.reason or Refusal.NOT_REGISTERED
            self._context.refuse(self._user, self._address, fingerprint, reason)
            if self._connection is not None:
                self._connection.send_auth_banner(f"Ops Center refuses the sign-in: {reason}.\n")
        return admission.allowed

    async def _fetch_admission(self, username: str, fingerprint: str) -> Admission:
        try:
            cluster_id = UUID(username)
        except ValueError:
            return Admission(allowed=False, reason=Refusal.NO_CLUSTER_ID)
        return await self._context.admit(cluster_id, fingerprint)

    def auth_completed(self) -> None:
        """Open the session: only now has the peer proved that it holds the key."""
        conn, offered, link = self._connection, self._offered, self._link
        user = "" if conn is None else str(conn.get_extra_info("username"))
        if conn is None or link is None or offered is None or offered[0][0] != user:
            msg = "a sign-in completed without a key"
            raise asyncssh.PermissionDenied(msg)
        if self._entered:
            self._leave()
        self._context.counters.handshakes.labels(result="ok").inc()
        version, words = _parse_version(str(conn.get_extra_info("client_version", "")))
        self.session = Session(
            cluster_id=UUID(user),
            fingerprint=offered[0][1],
            connection=conn,
            link=link,
            transport=self._transport,
            remote_address=one_line(self._address, 60),
            client_version=version,
            instance=words.get("instance", ""),
            process=words.get("process", ""),
            allowed=offered[1].services,
        )
        self._context.registry.add(self.session)

    # --- what it may ask for ------------------------------------------------------------------

    def server_requested(self, listen_host: str, listen_port: int) -> bool | ServiceListener:
        """Accept a forward of an allowed service on its well-known port, refuse everything else."""
        session = self.session
        limits = self._context.limits
        if (
            session is None
            or session.state == "gone"
            or listen_host not in session.allowed
            or SERVICE_PORTS.get(listen_host) != listen_port
            or len(session.services) >= limits.forwards
        ):
            self._context.counters.forward_denied.inc()
            if session is not None and SERVICE_PORTS.get(listen_host) == listen_port:
                session.denied.add(listen_host)
            asked = one_line(f"{listen_host}:{listen_port}", 80)
            cluster = str(session.cluster_id) if session is not None else self._address
            if self._context.log.admit(cluster, Refusal.FORWARD):
                text = "cluster %s asked to forward %r, which is not allowed"
                logger.warning(text, cluster, asked, extra={"cluster": cluster})
            return False
        self._context.registry.service_added(session, listen_host)
        return ServiceListener(self._context.registry, session, listen_host)

    def session_requested(self) -> bool:
        """Refuse shells, commands and subsystems."""
        return False

    def connection_requested(self, *_: object) -> bool:
        """Refuse to connect anywhere on a peer's behalf."""
        return False

    def unix_connection_requested(self, *_: object) -> bool:
        """Refuse to connect to sockets of this machine."""
        return False

    def unix_server_requested(self, *_: object) -> bool:
        """Refuse forwards on socket paths."""
        return False

    def tun_requested(self, *_: object) -> bool:
        """Refuse network tunnels."""
        return False

    def tap_requested(self, *_: object) -> bool:
        """Refuse network tunnels."""
        return False


def server_options(
    context: HubContext, host_key: asyncssh.SSHKey, *, limits: Limits
) -> asyncssh.SSHServerConnectionOptions:
    """Return the options of every connection, over TCP and inside WebSockets alike."""
    refused: dict[str, Any] = {
        "password_auth": False,
        "kbdint_auth": False,
        "host_based_auth": False,
        "gss_host": None,
        "gss_kex": False,
        "gss_auth": False,
        "allow_pty": False,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "allow_scp": False,
        "line_editor": False,
    }
    return asyncssh.SSHServerConnectionOptions(
        server_factory=lambda: HubServer(context),
        server_host_keys=[host_key],
        server_version="OpsCenter",
        kex_algs=KEX_ALGORITHMS,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        compression_algs=["none"],
        public_key_auth=True,
        login_timeout=limits.login_seconds,
        keepalive_interval=limits.keepalive_seconds,
        keepalive_count_max=limits.keepalive_count,
        tcp_keepalive=True,
        **refused,
    )


def _parse_version(banner: str) -> tuple[str, dict[str, str]]:
    """Split ``SSH-2.0-OpsCenterAgent_0.1.0 process=<hex> instance=<hex>``.

    Returns:
        The version, and the words after it by name; a client need not send any.
    """
    text = one_line(banner, 200).removeprefix("SSH-2.0-")
    version, _, rest = text.partition(" ")
    words = dict(word.split("=", 1) for word in rest.split() if "=" in word)
    return version[:100], {name: value[:40] for name, value in words.items()}


def _describe_end(exc: Exception | None) -> str:
    """Describe in a few words why a connection ended."""
    if exc is None:
        return "closed by the agent"
    text = one_line(str(exc), 150)
    if "not responding to keepalive" in text:
        return "the agent did not answer keepalives"
    if isinstance(exc, asyncssh.ConnectionLost):
        return f"connection lost: {text}" if text else "connection lost"
    if isinstance(exc, asyncssh.DisconnectError):
        return f"disconnected: {text}" if text else "disconnected"
    return f"connection lost: {text or type(exc).__name__}"
