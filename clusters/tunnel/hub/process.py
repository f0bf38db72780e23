"""The hub process: listeners, the gateway, and the loops that keep the rest informed.

It runs on the plain asyncio loop. Measured with uvloop: while one tunnel moves bulk data, a
small request on another waits 100 ms instead of 10, so uvloop is refused.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncssh
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.utils import timezone
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from clusters.tunnel.counters import (
    HEARTBEAT_KEY,
    METRICS_TTL_SECONDS,
    UNKNOWN_PROXY_KEY,
    Counters,
    metrics_key,
)
from clusters.tunnel.hub import loops, session_log
from clusters.tunnel.hub.channels import Opener
from clusters.tunnel.hub.connection import BoundedConnection
from clusters.tunnel.hub.door import MAX_KNOWN, Door
from clusters.tunnel.hub.gateway import Gateway
from clusters.tunnel.hub.limits import Limits
from clusters.tunnel.hub.listeners import Acceptor, enter_door
from clusters.tunnel.hub.proxies import Proxies
from clusters.tunnel.hub.recorder import DatabaseRecorder, DatabaseThread
from clusters.tunnel.hub.refusals import Event, Refusal
from clusters.tunnel.hub.revocations import Revocations
from clusters.tunnel.hub.server import HubContext, server_options
from clusters.tunnel.hub.sessions import Registry
from clusters.tunnel.hub.sockets import bind_tcp, bind_unix
from clusters.tunnel.hub.websocket import WebSocketEntry
from opscenter.core.budgets import flush_refusals
from opscenter.core.write_checks import HUB, KEPT_SECONDS, key_of

logger = logging.getLogger(__name__)

_GATEWAY_SECONDS = 5.0  # until our own gateway must have taken a connection
_HEARTBEAT_SECONDS = 5.0
_SWEEP_SECONDS = 5.0
_DOOR_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HubConfig:
    """Where a hub listens. A port of 0 picks a free one (tests)."""

    hub_id: str
    host: str
    port: int
    ws_port: int
    gateway_url: str  # unix:///path or tcp://host:port
    host_key: asyncssh.SSHKey
    redis_url: str
    trusted_proxies: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


class Hub:
    """One hub. Use :meth:`start` and :meth:`stop`; everything runs on the current loop."""

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        self.counters = Counters()
        self._log_database = DatabaseThread("hub-log")
        self._lookup_database = DatabaseThread("hub-lookup")
        self.recorder = DatabaseRecorder(
            config.hub_id,
            self._log_database,
            self._lookup_database,
            write_seconds=config.limits.write_seconds,
        )
        self.registry = Registry(config.limits, self.recorder, self.counters)
        self.opener = Opener(self.registry, config.limits, self.counters)
        self.gateway = Gateway(self.opener, config.limits, self.counters, self._cluster_exists)
        self.door = Door(config.limits)
        self.context = HubContext(
            limits=config.limits,
            registry=self.registry,
            counters=self.counters,
            admit=self._admit,
            refused=self._refused,
            door=self.door,
            proxies=Proxies(config.trusted_proxies),
        )
        self.counters.registry.register(self)
        self._redis = AsyncRedis.from_url(
            config.redis_url, socket_timeout=5, socket_connect_timeout=5, health_check_interval=10
        )
        self.revocations = Revocations(
            self.registry, self.counters, self._lookup_database, self._redis
        )
        self._stopped = False
        self._options = server_options(self.context, config.host_key, limits=config.limits)
        self._websocket = WebSocketEntry(self.context, self._options)
        self._acceptors: list[Acceptor] = []  # of strangers
        self._gateway_acceptor: Acceptor | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.port = config.port
        self.ws_port = config.ws_port
        self.gateway_port = 0

    # --- start and stop -----------------------------------------------------------------------

    async def start(self) -> None:
        """Open the listeners, then end what a killed predecessor left open, then serve.

        Raises:
            PortInUseError: if somebody else listens on one of the addresses.
            ImproperlyConfigured: on uvloop, or for a gateway address that is neither unix nor tcp.
        """
        if type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
            msg = "the hub does not run on uvloop: small requests would wait behind bulk data"
            raise ImproperlyConfigured(msg)
        try:
            await self._websocket.setup()
            self._listen_ssh()
            self._listen_websocket()
            await self._listen_gateway()
            with self.recorder.writes.watched():
                stale = await self._log_database.run(
                    session_log.close_stale_sessions, self.config.hub_id
                )
                self.door.remember(await self._log_database.run(self._recent_addresses))
        except BaseException:
            await self.stop(drain_seconds=0)
            raise
        if stale:
            logger.info("sessions that an earlier run left open, closed now: %d", stale)
        for loop in (
            self.recorder.run(),
            loops.repeat(_HEARTBEAT_SECONDS, self._heartbeat),
            loops.repeat(_HEARTBEAT_SECONDS, self._flush_refusals),
            loops.repeat(_DOOR_SECONDS, self._sweep_door),
            loops.repeat(self.config.limits.seen_seconds, self._write_seen),
            loops.repeat(self.config.limits.recheck_seconds, self.revocations.recheck),
            loops.repeat(min(_SWEEP_SECONDS, self.config.limits.idle_seconds / 4), self._sweep),
            loops.measure_lag(self.counters.loop_lag),
            self.revocations.listen(),
        ):
            self._tasks.append(asyncio.create_task(loop))
        logger.info(
            "hub %s: SSH on port %d, WebSocket on port %d, gateway at %s",
            self.config.hub_id,
            self.port,
            self.ws_port,
            self.config.gateway_url,
        )

    async def stop(self, *, drain_seconds: float | None = None) -> None:
        """Drain: accept nothing new, let channels finish, end the tunnels, record it all.

        A second call does nothing.
        """
        if self._stopped:
            return
        self._stopped = True
        seconds = self.config.limits.shutdown_seconds if drain_seconds is None else drain_seconds
        self.door.accepting = False
        self.gateway.draining = True
        for acceptor in self._acceptors:
            acceptor.close()
        if self._gateway_acceptor is not None:
            self._gateway_acceptor.close()
            await self._gateway_acceptor.end_tasks()
        for acceptor in self._acceptors:
            await acceptor.end_tasks()
        give_up_at = time.monotonic() + seconds
        while self._busy() and time.monotonic() < give_up_at:  # noqa: ASYNC110 - two counters
            await asyncio.sleep(0.05)
        self.gateway.abort_all()
        sessions = self.registry.sessions()
        for session in sessions:
            self.registry.close(session, "the hub was stopped")
        for session in sessions:
            await session.connection.wait_closed()
        await self._websocket.cleanup()
        if self._tasks:
            await self.recorder.finish(5)
        await loops.end(self._tasks)
        self._remove_gateway_socket()
        await self._redis.aclose()
        await self._lookup_database.close()
        await self._log_database.close()

    def _busy(self) -> bool:
        return bool(self.gateway.piping() or self.opener.pending)

    # --- listeners ----------------------------------------------------------------------------

    def _listen_ssh(self) -> None:
        sock = bind_tcp(self.config.host, self.config.port, "OPSCENTER_HUB_PORT")
        self.port = sock.getsockname()[1]
        self._acceptors.append(Acceptor(sock, self._serve_ssh, self.door.make_room))

    def _listen_websocket(self) -> None:
        sock = bind_tcp(self.config.host, self.config.ws_port, "OPSCENTER_HUB_WS_PORT")
        self.ws_port = sock.getsockname()[1]
        self._acceptors.append(Acceptor(sock, self._websocket.serve, self.door.make_room))

    async def _listen_gateway(self) -> None:
        parts = urlsplit(self.config.gateway_url)
        if parts.scheme == "tcp" and parts.hostname:
            sock = bind_tcp(parts.hostname, parts.port or 0, "OPSCENTER_GATEWAY_URL")
            self.gateway_port = sock.getsockname()[1]
        elif parts.scheme == "unix" and parts.path:
            sock = await bind_unix(Path(parts.path))
        else:
            msg = (
                f"OPSCENTER_GATEWAY_URL={self.config.gateway_url!r} is neither unix:///path nor "
                "tcp://host:port"
            )
            raise ImproperlyConfigured(msg)
        self._gateway_acceptor = Acceptor(sock, self._serve_gateway, self.door.make_room)

    async def _serve_ssh(self, sock: socket.socket, address: str) -> None:
        """Begin SSH on an accepted connection, if there is a place for it."""
        entry = enter_door(self.door, sock, address)
        if entry is None:
            self.counters.handshakes.labels(result="shed").inc()
            return
        loop, number = asyncio.get_running_loop(), sock.fileno()
        self.context.arriving[number] = entry
        try:
            # As asyncssh.listen() does it; asyncssh.run_server() would copy the options each time.
            await loop.connect_accepted_socket(lambda: BoundedConnection(loop, self._options), sock)
        except OSError as exc:
            logger.debug("a connection ended before it began: %s", exc)
            self.context.arriving.pop(number, None)
            self.door.leave(entry)
            sock.close()

    async def _serve_gateway(self, sock: socket.socket, address: str) -> None:
        del address
        await asyncio.get_running_loop().connect_accepted_socket(self.gateway.protocol, sock)

    def _remove_gateway_socket(self) -> None:
        parts = urlsplit(self.config.gateway_url)
        if parts.scheme == "unix" and self._gateway_acceptor is not None:
            Path(parts.path).unlink(missing_ok=True)

    # --- look-ups -----------------------------------------------------------------------------

    async def _admit(self, cluster_id: UUID, fingerprint: str) -> session_log.Admission:
        try:
            return await self._lookup_database.run(session_log.admit, cluster_id, fingerprint)
        except DatabaseError as exc:
            if self.context.log.admit("", Refusal.NO_DATABASE):
                logger.error("a sign-in could not be looked up: %s", exc)
            return session_log.Admission(allowed=False, reason=Refusal.NO_DATABASE)

    async def _cluster_exists(self, cluster_id: UUID) -> bool:
        if self.registry.of_cluster(cluster_id):
            return True
        try:
            return await self._lookup_database.run(session_log.cluster_exists, cluster_id)
        except DatabaseError as exc:
            if self.context.log.admit("", Event.LOOK_UP):
                logger.error("a cluster could not be looked up: %s", exc)
            return True  # then the answer is "no tunnel", which is true as well

    def _recent_addresses(self) -> list[str]:
        """Return from where keys signed in lately, so that a restart forgets no agent."""
        since = timezone.now() - timedelta(seconds=self.config.limits.known_seconds)
        return session_log.recent_addresses(since, MAX_KNOWN)

    def _refused(self, user: str, address: str, reason: str) -> None:
        self.recorder.refused(user, address, reason)

    # --- figures ------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """Yield what is under way now, for the registry that holds the counters."""
        states = Counter(session.state for session in self.registry.sessions())
        sessions = GaugeMetricFamily("tunnel_sessions", "Sessions, by state", labels=["state"])
        for state in ("connecting", "ready", "suspect", "draining"):
            sessions.add_metric([state], states[state])
        yield sessions
        channels = GaugeMetricFamily("tunnel_channels", "Channels, by state", labels=["state"])
        channels.add_metric(["pending"], self.opener.pending)
        channels.add_metric(["open"], self.opener.channels)
        yield channels
        yield GaugeMetricFamily("tunnel_handshakes_pending", "Handshakes now", self.context.pending)
        connections = len(self.gateway.connections)
        yield GaugeMetricFamily("gateway_callers", "Connections to the gateway", connections)
        failures = self.recorder.failures
        yield CounterMetricFamily("tunnel_database_failures", "Writes that failed", failures)

    # --- loops --------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        """Report that the hub works and how its writes go, and publish the counters.

        A hub whose gateway cannot be reached any more (its socket was deleted, no descriptor is
        free) shows no life, so that it is named and started again.

        Raises:
            OSError: if the gateway cannot be reached.
        """
        if not self._stopped:
            await self._reach_gateway()
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(HEARTBEAT_KEY, repr(time.time()))
        pipe.set(key_of(HUB), self.recorder.writes.check().serialized(), ex=KEPT_SECONDS)
        pipe.set(
            metrics_key(self.config.hub_id),
            generate_latest(self.counters.registry),
            ex=METRICS_TTL_SECONDS,
        )
        if self.context.proxies.last_unknown_s is not None:
            pipe.set(UNKNOWN_PROXY_KEY, repr(self.context.proxies.last_unknown_s), ex=KEPT_SECONDS)
        await pipe.execute()

    async def _reach_gateway(self) -> None:
        """Connect to our own gateway as a pull does, and hang up."""
        parts = urlsplit(self.config.gateway_url)
        async with asyncio.timeout(_GATEWAY_SECONDS):
            if parts.scheme == "unix":
                _, writer = await asyncio.open_unix_connection(parts.path)
            else:
                _, writer = await asyncio.open_connection(parts.hostname, self.gateway_port)
        writer.close()

    async def _flush_refusals(self) -> None:
        """Add what budgets refused to the sums of all processes, in a thread: it waits."""
        await asyncio.to_thread(self._flush_refusals_now)

    def _flush_refusals_now(self) -> None:
        with Redis.from_url(
            self.config.redis_url, socket_timeout=5, socket_connect_timeout=5
        ) as client:
            flush_refusals(client)

    async def _write_seen(self) -> None:
        await self.recorder.refresh(self.registry.sessions)

    async def _sweep(self) -> None:
        for limited in (self.context.log, session_log.limited):
            limited.tell(logger)
        self.gateway.sweep()

    async def _sweep_door(self) -> None:
        self.door.sweep()
