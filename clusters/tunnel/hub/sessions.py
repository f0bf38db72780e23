"""The live sessions of this hub: which one serves a cluster, which drain, which are suspect.

At most two sessions a cluster: the newest ready one takes new channels, an older one drains and
is then closed, a third aborts the oldest. Clean-up compares sessions, never cluster ids alone,
so that the end of an old session cannot remove its successor. What a replaced session still says
is evidence of a second process (:mod:`clusters.tunnel.hub.duplicates`).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol
from uuid import UUID

import asyncssh

from clusters.tunnel.counters import Counters
from clusters.tunnel.hub.connection_stats import Link
from clusters.tunnel.hub.duplicates import DuplicateEvidence, Sighting
from clusters.tunnel.hub.limits import Limits

State = Literal["connecting", "ready", "suspect", "draining", "gone"]


@dataclass(eq=False, slots=True)
class Session:
    """One signed-in tunnel. Two sessions are never equal, even with equal fields."""

    cluster_id: UUID
    fingerprint: str
    connection: asyncssh.SSHServerConnection
    link: Link
    transport: str  # "tcp" or "wss"
    remote_address: str
    client_version: str
    instance: str  # "" when the client does not say
    allowed: frozenset[str]
    process: str = ""  # random number of the client's process; "" when it does not say
    id: UUID = field(default_factory=uuid.uuid4)
    connected_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    signed_in_s: float = field(default_factory=time.monotonic)
    state: State = "connecting"
    services: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)  # known services that it may not forward
    pending: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    streams: int = 0
    end_reason: str = ""
    ended_at: datetime | None = None
    replaced_at_s: float = 0.0  # monotonic
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    released: list[asyncio.Future[None]] = field(default_factory=list)
    suspicion: asyncio.TimerHandle | None = None

    @property
    def serves(self) -> bool:
        """Return whether new channels may go here."""
        return self.state in ("ready", "suspect")

    def last_received_s(self) -> float:
        """Return the Unix time of the last sign of life; at least the sign-in itself."""
        silent = self.link.silent_seconds()
        if silent is None:  # not known here: an open session answers keepalives
            return time.time()
        return time.time() - min(silent, time.monotonic() - self.signed_in_s)

    def answered_since(self, moment_s: float) -> bool:
        """Return whether the open session's peer has sent anything since a monotonic time."""
        if self.state == "gone" or self.connection.is_closed():
            return False
        silent = self.link.silent_seconds()
        return silent is None or time.monotonic() - silent > moment_s

    def sighting(self) -> Sighting:
        """Return whom this session shows to hold the cluster's key."""
        return Sighting(self.signed_in_s, self.remote_address, self.instance, self.process)

    def notify_released(self) -> None:
        """Wake callers that wait for a free slot."""
        for waiter in self.released:
            if not waiter.done():
                waiter.set_result(None)
        self.released.clear()

    async def wait_released(self) -> None:
        """Wait until a slot is released or the session ends."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.released.append(waiter)
        await waiter


class Recorder(Protocol):
    """Receives the events of sessions; the hub's recorder writes them to the database."""

    def opened(self, session: Session) -> None:
        """Note a sign-in."""

    def changed(self, session: Session) -> None:
        """Note a new state or a new set of services."""

    def closed(self, session: Session) -> None:
        """Note an end and its reason."""

    def conflict(self, cluster_id: UUID, detail: str) -> None:
        """Note that two processes use one identity."""


class Registry:
    """Every live session of this hub, by cluster; used only on the event loop."""

    def __init__(self, limits: Limits, recorder: Recorder, counters: Counters) -> None:
        self._limits = limits
        self._recorder = recorder
        self._counters = counters
        self._sessions: dict[UUID, list[Session]] = {}  # oldest first
        self._evidence = DuplicateEvidence(limits)
        self.on_ready: list[Callable[[Session], None]] = []

    def add(self, session: Session) -> None:
        """Add a session after its sign-in; a third one aborts the cluster's oldest."""
        sessions = self._sessions.setdefault(session.cluster_id, [])
        sessions.append(session)
        self._counters.sign_ins.inc()
        self._recorder.opened(session)
        while len(live := [one for one in sessions if one.state != "gone"]) > 2:
            self.abort(live[0], "two newer sessions of the same cluster")

    def service_added(self, session: Session, service: str) -> None:
        """Note an accepted forward: the first one makes the session ready and the newest serve."""
        session.services.add(service)
        if session.state == "connecting":
            session.state = "ready"
            # Written before the older one drains: the tunnel was up all the time.
            self._recorder.changed(session)
            self._note_conflict(
                session.cluster_id, self._evidence.served(session.cluster_id, session.sighting())
            )
            live = self.of_cluster(session.cluster_id)
            place = live.index(session)
            for older in live[:place]:
                self._replace(older, session)
            for newer in live[place + 1 :]:
                if newer.serves:  # it overtook this one
                    self._replace(session, newer)
                    break
            for callback in self.on_ready:
                callback(session)
        else:
            self._recorder.changed(session)

    def service_removed(self, session: Session, service: str) -> None:
        """Note a cancelled forward; nothing for a session that ended."""
        if session.state != "gone" and service in session.services:
            session.services.discard(service)
            self._recorder.changed(session)

    def serving(self, cluster_id: UUID) -> Session | None:
        """Return the session that takes new channels: the newest ready one; None if none does."""
        for session in reversed(self._sessions.get(cluster_id, [])):
            if session.serves:
                return session
        return None

    def sessions(self) -> list[Session]:
        """Return every session that has not ended."""
        return [one for many in self._sessions.values() for one in many if one.state != "gone"]

    def of_cluster(self, cluster_id: UUID) -> list[Session]:
        """Return the cluster's sessions that have not ended, oldest first."""
        return [one for one in self._sessions.get(cluster_id, []) if one.state != "gone"]

    def remove(self, session: Session, reason: str) -> None:
        """Forget exactly this session once its connection is gone; a second call does nothing."""
        if session.state != "gone":
            self._end(session, reason)
        sessions = self._sessions.get(session.cluster_id, [])
        if session in sessions:
            sessions.remove(session)
        if not sessions:
            self._sessions.pop(session.cluster_id, None)

    def abort(self, session: Session, reason: str) -> None:
        """End a session at once, with its channels."""
        self._end(session, reason)
        session.connection.abort()

    def close(self, session: Session, reason: str) -> None:
        """End a session politely: the peer is told, what is queued is still sent."""
        self._end(session, reason)
        session.connection.close()

    def expel(self, session: Session, reason: str) -> None:
        """End a session that asks too much; the peer is told why, so that its log says it."""
        self._end(session, reason)
        session.connection.disconnect(asyncssh.DISC_PROTOCOL_ERROR, reason)

    def suspect(self, session: Session) -> None:
        """Probe a session hard for a while after an open that timed out.

        A frozen peer is cut within 4 s instead of 45; a healthy one answers and is left alone.
        """
        if session.state not in ("ready", "draining") or session.suspicion is not None:
            return
        self._probe(session)
        self._counters.suspicions.inc()
        if session.state == "ready":
            session.state = "suspect"
            self._recorder.changed(session)

    def _probe(self, session: Session) -> None:
        """Ask often for a while whether the peer is there; the regular keepalives come back."""
        if session.suspicion is not None:
            return
        limits = self._limits
        session.connection.set_keepalive(
            min(limits.suspect_keepalive_seconds, limits.keepalive_seconds),
            limits.suspect_keepalive_count,
        )
        session.suspicion = asyncio.get_running_loop().call_later(
            limits.suspect_seconds, self._trust_again, session
        )

    def _trust_again(self, session: Session) -> None:
        session.suspicion = None
        if session.state == "gone":
            return
        session.connection.set_keepalive(
            self._limits.keepalive_seconds, self._limits.keepalive_count
        )
        if session.state == "suspect":
            session.state = "ready"
            self._recorder.changed(session)

    def _replace(self, older: Session, newer: Session) -> None:
        """Let an older session finish what it carries; it gets no new channels.

        It is probed: a connection that is only half open, as after a restart or a change of
        address, is cut within seconds, and one that answers has a process behind it.
        """
        self._counters.replacements.inc()
        cluster_id, places = older.cluster_id, (older.sighting(), newer.sighting())
        self._note_conflict(cluster_id, self._evidence.moved(cluster_id, *places))
        if older.state == "draining":
            return
        older.state = "draining"
        older.replaced_at_s = time.monotonic()
        self._probe(older)
        loop, limits = asyncio.get_running_loop(), self._limits
        seconds = limits.replaced_drain_seconds
        older.timers += [
            loop.call_later(limits.suspect_seconds, self._probed, older, newer),
            loop.call_later(seconds / 2, self._probe, older),
            loop.call_later(seconds, self._drained, older, newer),
        ]
        self._recorder.changed(older)

    def _probed(self, older: Session, newer: Session) -> None:
        """Count a replaced session that answered in the second half of its probes."""
        if older.answered_since(older.replaced_at_s + self._limits.suspect_seconds / 2):
            places = (older.sighting(), newer.sighting())
            self._note_conflict(
                older.cluster_id, self._evidence.overlapped(older.cluster_id, *places)
            )

    def _drained(self, older: Session, newer: Session) -> None:
        """Close a replaced session; one that still answers is a second user of the key.

        An agent ends its session before it dials again, so two that live have two processes,
        whatever they say of themselves. What was on its way when the session was replaced is no
        answer: only the second half of the time counts.
        """
        if older.state == "gone":
            return
        seconds = self._limits.replaced_drain_seconds
        if older.answered_since(older.replaced_at_s + seconds / 2):
            places = (older.sighting(), newer.sighting())
            self._note_conflict(older.cluster_id, self._evidence.outlived(seconds, *places))
        self.close(older, "replaced by a newer session")

    def _note_conflict(self, cluster_id: UUID, detail: str) -> None:
        if detail:
            self._recorder.conflict(cluster_id, detail)

    def _end(self, session: Session, reason: str) -> None:
        if session.state == "gone":
            return
        session.state = "gone"
        session.end_reason = reason
        session.ended_at = datetime.now(UTC)
        for timer in session.timers:
            timer.cancel()
        if session.suspicion is not None:
            session.suspicion.cancel()
        session.notify_released()
        self._counters.disconnects.inc()
        self._recorder.closed(session)
