"""Open channels through a tunnel without ever leaving one behind.

``asyncio.wait_for(connection.create_connection(...))`` leaks a channel here and a socket inside
the customer's cluster when the target accepts after the client has left; :class:`Opener` keeps an
owner for every open until it has completed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import asyncssh

from clusters.tunnel.counters import Counters
from clusters.tunnel.hub.limits import Limits
from clusters.tunnel.hub.sessions import Registry, Session
from clusters.tunnel.protocol import SERVICE_PORTS
from opscenter.core.budgets import Slots

SessionFactory = Callable[[], asyncssh.SSHTCPSession[bytes]]
Channel = asyncssh.SSHTCPChannel[bytes]


class OpenError(Exception):
    """A channel could not be opened: the gateway's answer, a stable code and the reason."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float = 0.0
    trying: bool = False


class Breaker:
    """Fail at once for a while after several failed opens in a row, then let one try."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._circuits: dict[tuple[UUID, str], _Circuit] = {}

    def check(self, cluster_id: UUID, service: str) -> None:
        """Let an open through, or refuse it.

        Raises:
            OpenError: 503 ``breaker_open`` while the circuit is open or a trial is under way.
        """
        circuit = self._circuits.get((cluster_id, service))
        if circuit is None or circuit.failures < self._limits.breaker_failures:
            return
        if circuit.trying or time.monotonic() < circuit.open_until:
            reason = f"{service} failed {circuit.failures} times in a row, the next try is later"
            raise OpenError(503, "breaker_open", reason)
        circuit.trying = True

    def succeeded(self, cluster_id: UUID, service: str) -> None:
        """Close the circuit."""
        self._circuits.pop((cluster_id, service), None)

    def failed(self, cluster_id: UUID, service: str) -> None:
        """Count a failure; enough of them in a row open the circuit."""
        circuit = self._circuits.setdefault((cluster_id, service), _Circuit())
        circuit.failures += 1
        circuit.trying = False
        if circuit.failures >= self._limits.breaker_failures:
            circuit.open_until = time.monotonic() + self._limits.breaker_seconds

    def gave_up(self, cluster_id: UUID, service: str) -> None:
        """Forget a trial whose client left before it was decided."""
        circuit = self._circuits.get((cluster_id, service))
        if circuit is not None:
            circuit.trying = False

    def forget(self, cluster_id: UUID) -> None:
        """Close every circuit of a cluster: its tunnel is new."""
        for key in [key for key in self._circuits if key[0] == cluster_id]:
            del self._circuits[key]


class Opener:
    """Opens channels under the limits of the tunnel and the hub."""

    def __init__(self, registry: Registry, limits: Limits, counters: Counters) -> None:
        self._registry = registry
        self._limits = limits
        self._counters = counters
        self.breaker = Breaker(limits)
        self.channels = 0  # open ones
        self.pending = 0  # opens that have not completed, also those whose client left
        # A place is taken when an open begins, and given back when its channel is over.
        self._slots = Slots(
            "tunnel_channels", "channels", total=limits.channels,
            cluster=limits.channels_per_cluster,
        )  # fmt: skip
        registry.on_ready.append(lambda session: self.breaker.forget(session.cluster_id))

    async def open(
        self, cluster_id: UUID, service: str, factory: SessionFactory
    ) -> tuple[Session, Channel]:
        """Open a channel to a service of a cluster.

        The caller owns the channel and must call :meth:`closed` once when it is over.

        Raises:
            OpenError: with the answer of the gateway; nothing is left behind then.
        """
        session = await self._admit(cluster_id, service)
        try:
            self.breaker.check(cluster_id, service)
        except OpenError:
            self._slots.give_back(cluster=cluster_id)
            raise
        started = time.monotonic()
        try:
            channel = await self._open(session, service, factory)
        except asyncio.CancelledError:
            self.breaker.gave_up(cluster_id, service)
            self._counters.open_failures.labels(reason="caller_gone").inc()
            raise
        except TimeoutError:
            self.breaker.failed(cluster_id, service)
            self._registry.suspect(session)
            self._counters.open_failures.labels(reason="timeout").inc()
            reason = f"{service} did not accept within {self._limits.open_seconds:g} s"
            raise OpenError(504, "open_timeout", reason) from None
        except asyncssh.ChannelOpenError as exc:
            raise self._open_failed(session, service, exc) from exc
        except (asyncssh.Error, OSError) as exc:
            self.breaker.gave_up(cluster_id, service)
            self._counters.open_failures.labels(reason="no_tunnel").inc()
            raise OpenError(503, "tunnel_lost", f"the tunnel ended: {exc}") from exc
        self.breaker.succeeded(cluster_id, service)
        self._counters.opens.inc()
        self._counters.open_seconds.inc(time.monotonic() - started)
        session.streams += 1
        self.channels += 1
        return session, channel

    def closed(self, session: Session) -> None:
        """Release a channel's slot."""
        session.streams -= 1
        self.channels -= 1
        self._slots.give_back(cluster=session.cluster_id)
        session.notify_released()

    def _open_failed(
        self, session: Session, service: str, exc: asyncssh.ChannelOpenError
    ) -> OpenError:
        """Distinguish a target that refuses from a tunnel that ended during the open."""
        if session.state == "gone":
            self.breaker.gave_up(session.cluster_id, service)
            self._counters.open_failures.labels(reason="no_tunnel").inc()
            return OpenError(503, "tunnel_lost", f"the tunnel ended: {exc.reason}")
        self.breaker.failed(session.cluster_id, service)
        self._counters.open_failures.labels(reason="refused").inc()
        return OpenError(502, "refused", f"{service} refused: {exc.reason or 'no reason given'}")

    async def _admit(self, cluster_id: UUID, service: str) -> Session:
        """Return the serving session once it has room; wait a moment for that, not longer.

        The open then has a place, which :meth:`_open` gives back if it comes to nothing.
        """
        give_up_at = time.monotonic() + self._limits.queue_seconds
        while True:
            session = self._find(cluster_id, service)
            full = self._full(session, service)
            by = "" if full else self._slots.try_take(cluster=cluster_id)
            if not full and not by:
                return session
            try:
                async with asyncio.timeout(give_up_at - time.monotonic()):
                    await session.wait_released()
            except TimeoutError:
                self._counters.open_failures.labels(reason="limit").inc()
                reason = full or str(self._slots.refusal(by))
                raise OpenError(429, "limit", reason) from None

    def _find(self, cluster_id: UUID, service: str) -> Session:
        session = self._registry.serving(cluster_id)
        if session is None:
            self._counters.open_failures.labels(reason="no_tunnel").inc()
            raise OpenError(503, "no_tunnel", "no tunnel is up")
        if service not in session.allowed:
            self._counters.open_failures.labels(reason="denied").inc()
            raise OpenError(403, "not_allowed", f"{service} is not allowed for this cluster")
        if service not in session.services:
            self._counters.open_failures.labels(reason="no_service").inc()
            raise OpenError(503, "no_service", f"the agent does not offer {service}")
        return session

    def _full(self, session: Session, service: str) -> str:
        """Return which limit is reached; "" when there is room."""
        if session.pending[service] >= self._limits.pending_opens:
            return f"{session.pending[service]} opens to {service} are still pending"
        # Pending opens of other services do not count: one stuck service must not delay the rest.
        if session.streams + session.pending[service] >= self._limits.streams:
            return f"{session.streams} streams are open on this tunnel"
        return ""

    async def _open(self, session: Session, service: str, factory: SessionFactory) -> Channel:
        """Open under a deadline; the open keeps an owner until it completes or the tunnel ends."""
        session.pending[service] += 1
        self.pending += 1
        task = asyncio.ensure_future(
            session.connection.create_connection(
                factory,
                service,
                SERVICE_PORTS[service],
                "hub",
                0,
                window=self._limits.window_bytes,
            )
        )
        abandoned = False
        places = [session.cluster_id]

        def give_back() -> None:
            while places:
                self._slots.give_back(cluster=places.pop())

        def succeeded() -> bool:
            return not task.cancelled() and task.exception() is None

        def completed(_: object) -> None:
            session.pending[service] -= 1
            self.pending -= 1
            if abandoned or not succeeded():
                give_back()
            session.notify_released()
            if abandoned and succeeded():
                self._counters.late_opens.inc()
                task.result()[0].abort()

        task.add_done_callback(completed)
        try:
            channel, _ = await asyncio.wait_for(asyncio.shield(task), self._limits.open_seconds)
        except (TimeoutError, asyncio.CancelledError):
            abandoned = True
            if task.done() and succeeded():  # it completed in the same iteration of the loop
                task.result()[0].abort()
                give_back()
            raise
        return channel
