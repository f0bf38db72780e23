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
from clusters.tunnel.hub.connection import BoundedConnection
from clusters.tunnel.hub.connection_stats import Link, TcpLink, bound_unacknowledged
from clusters.tunnel.hub.door import Door, Entry
from clusters.tunnel.hub.limits import Limits
from clusters.tunnel.hub.proxies import Proxies
from clusters.tunnel.hub.refusals import Refusal
from clusters.tunnel.hub.session_log import Admission
from clusters.tunnel.hub.sessions import Registry, Session
from clusters.tunnel.protocol import CIPHERS, KEX_ALGORITHMS, MACS, SERVICE_PORTS
from opscenter.core.budgets import BudgetError, LocalRate, count_refusal
from opscenter.core.log_limits import RateLimitedLog
from opscenter.core.text import one_line

logger = logging.getLogger(__name__)

Admit = Callable[[UUID, str], Awaitable[Admission]]


@dataclass(eq=False)
class HubContext:
    """What every connection of the hub shares: limits, look-ups, and who is in."""

    limits: Limits
    registry: Registry
    counters: Counters
    admit: Admit
    refused: Callable[[str, str, str], None]  # cluster id as given, address, reason
    door: Door
    proxies: Proxies
    arriving: dict[int, Entry] = field(default_factory=dict)  # by the number of the socket
    log: RateLimitedLog = field(default_factory=RateLimitedLog)

    def __post_init__(self) -> None:
        self.sign_ins = LocalRate(
            "tunnel_sign_ins", "sign-ins", by="cluster", limit=self.limits.sign_ins, seconds=60
        )

    @property
    def pending(self) -> int:
        """Return how many connections are in on which nobody has signed in."""
        return self.door.pending

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

    def __init__(
        self, context: HubContext, *, transport: str = "tcp", entry: Entry | None = None
    ) -> None:
        self._context = context
        self._transport = transport
        self._entry = entry  # given for a WebSocket, whose connection is in already
        self._address = "" if entry is None else entry.address
        self._connection: asyncssh.SSHServerConnection | None = None
        self._link: Link | None = None
        self._user = ""
        # What was looked up last: the user name and the key's fingerprint, and the answer to both.
        # A peer may change the name between its query and its signature.
        self._offered: tuple[tuple[str, str], Admission] | None = None
        self._looked_up = 0
        self._forward_requests = 0
        self.session: Session | None = None
        self.behind_unknown_proxy = False

    def use_link(self, link: Link) -> None:
        """Take the link of a WebSocket instead of the socket's."""
        self._link = link

    # --- the connection -----------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Take the place that the listener took; end a connection that has lost it meanwhile."""
        self._connection = conn
        if self._transport == "tcp":
            sock = conn.get_extra_info("socket")
            self._entry = self._context.arriving.pop(sock.fileno(), None)
            self._address = "" if self._entry is None else self._entry.address
            self._link = TcpLink(sock)
            bound_unacknowledged(sock, self._context.limits.keepalive_seconds * 3)
        entry = self._entry
        if entry is None or not entry.inside:
            conn.abort()
            return
        if self._transport == "tcp":
            entry.abort = conn.abort
        entry.has_spoken = lambda: conn.get_extra_info("send_cipher") is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the session, or record why there never was one."""
        if self.session is not None:
            self._context.registry.remove(self.session, _describe_end(exc))
        elif self._entry is not None:
            self._context.door.leave(self._entry)
            if self._entry.end:
                self._context.counters.handshakes.labels(result=self._entry.end).inc()
            else:
                self._explain_unfinished(exc)

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
        """Look up a sign-in, unless its cluster or this connection has had too many."""
        try:
            cluster_id = UUID(username)
        except ValueError:
            return Admission(allowed=False, reason=Refusal.NO_CLUSTER_ID)
        self._looked_up += 1
        if self._looked_up > self._context.limits.keys_offered and self._connection is not None:
            count_refusal("hub_handshakes", "keys")
            self._connection.abort()
            return Admission(allowed=False, reason=Refusal.TOO_MANY_KEYS)
        try:
            # Only sign-ins that proved a key are counted, so that nobody else can use them up.
            self._context.sign_ins.check(cluster_id)
        except BudgetError:
            return Admission(allowed=False, reason=Refusal.TOO_MANY_SIGN_INS)
        return await self._context.admit(cluster_id, fingerprint)

    def auth_completed(self) -> None:
        """Open the session: only now has the peer proved that it holds the key."""
        conn, offered, link = self._connection, self._offered, self._link
        user = "" if conn is None else str(conn.get_extra_info("username"))
        if conn is None or link is None or offered is None or offered[0][0] != user:
            msg = "a sign-in completed without a key"
            raise asyncssh.PermissionDenied(msg)
        cluster_id, (_, fingerprint) = UUID(user), offered[0]
        try:
            self._context.sign_ins.spend(cluster_id)
        except BudgetError as exc:  # several were under way at once
            reason = Refusal.TOO_MANY_SIGN_INS
            self._context.refuse(self._user, self._address, fingerprint, reason)
            raise asyncssh.PermissionDenied(str(exc)) from None
        if isinstance(conn, BoundedConnection):
            conn.signed_in()
        if self._entry is not None:
            self._context.door.signed_in(self._entry)
        if self.behind_unknown_proxy:
            self._context.proxies.signed_in(self._address)
        self._context.counters.handshakes.labels(result="ok").inc()
        version, words = _parse_version(str(conn.get_extra_info("client_version", "")))
        self.session = Session(
            cluster_id=cluster_id,
            fingerprint=fingerprint,
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
        """Accept a forward of an allowed service on its well-known port, refuse everything else.

        Too many requests end the session: an agent asks once for each of its services.
        """
        session = self.session
        if session is not None and session.state != "gone" and not self._may_ask(session):
            return False
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

    def _may_ask(self, session: Session) -> bool:
        """Count a forward request; end a session that makes too many."""
        self._forward_requests += 1
        limit = self._context.limits.forward_requests
        if self._forward_requests <= limit:
            return True
        count_refusal("forward_requests", "session")
        reason = f"too many forward requests: at most {limit} in one session"
        self._context.registry.expel(session, reason)
        return False

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
    if isinstance(exc, asyncssh.DisconnectError) and not isinstance(exc, asyncssh.ConnectionLost):
        return _because("disconnected", text)
    is_plain = isinstance(exc, asyncssh.ConnectionLost)
    return _because("connection lost", text or ("" if is_plain else type(exc).__name__))


def _because(what: str, why: str) -> str:
    """Return what happened and why; only once where the reason says no more than that."""
    says_the_same = why.casefold().startswith(what)
    more = why[len(what) :].lstrip(" .:;,-") if says_the_same else why
    return f"{what}: {more}" if more else what
