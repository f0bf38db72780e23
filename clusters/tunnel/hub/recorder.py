"""Carry the state of sessions from the event loop to the database.

The loop never waits for the database: what has changed is noted (:mod:`~.pending_writes`) and one
thread writes it, a cluster at a time. A database that is away only delays that; the refresh, which
compares the live sessions with the rows, repairs what was missed. Audit lines have a queue of their
own, which drops nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import SyncToAsync
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    close_old_connections,
    connections,
)

from clusters.health_facts import HUB_FORGOT
from clusters.tunnel.hub import session_log
from clusters.tunnel.hub.pending_writes import ClusterNotes, PendingWrites, SessionFacts
from clusters.tunnel.hub.refusals import Event
from clusters.tunnel.hub.sessions import Session
from clusters.tunnel.hub.write_state import WriteState
from opscenter.core.budgets import BudgetError, LocalRate, count_refusal

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_RETRY_SECONDS = 2.0
_AUDIT_LINES = 60
"""Audit lines of refused sign-ins a minute; what is more is a number in one further line."""


class DatabaseThread:
    """One thread with one database connection."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a synchronous function that uses the ORM, without blocking the loop."""

        def call() -> T:
            close_old_connections()
            return function(*args, **kwargs)

        return await SyncToAsync(call, thread_sensitive=False, executor=self._executor)()

    async def close(self) -> None:
        """Close the thread's database connection and end it."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, connections.close_all)
        self._executor.shutdown(wait=False)


class DatabaseRecorder:
    """Records the sessions of one hub. The methods return at once and never raise.

    Args:
        hub: name of the hub.
        database: the thread that writes.
        refreshing: another one, so that refreshes do not wait behind writes, whose live updates
            may wait for Redis.
        write_seconds: how often one cluster is written at most.
    """

    def __init__(
        self,
        hub: str,
        database: DatabaseThread,
        refreshing: DatabaseThread,
        *,
        write_seconds: float = 1.0,
    ) -> None:
        self._hub = hub
        self._database = database
        self._refreshing = refreshing
        self._pending = PendingWrites(write_seconds)
        self._writing: ClusterNotes | None = None
        self._refusals: deque[Callable[[], None]] = deque()
        self._refusal_lines = LocalRate(
            "refused_sign_in_lines", "audit lines of refused sign-ins", by="all",
            limit=_AUDIT_LINES, seconds=60,
        )  # fmt: skip
        self._unlisted = 0  # refused sign-ins since the last line that have none of their own
        self._serving: dict[UUID, set[UUID]] = {}  # cluster -> its sessions that serve
        self._hurry = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.writes = WriteState()
        self.written = 0
        self._dropped = 0

    @property
    def failures(self) -> int:
        """Return how many writes failed since the start."""
        return self._dropped + self.writes.failures

    def opened(self, session: Session) -> None:
        """Note a sign-in; it is written with the services that follow, if they do at once."""
        self._note(session, soon=False)

    def changed(self, session: Session) -> None:
        """Note a new state or set of services."""
        self._note(session)

    def closed(self, session: Session) -> None:
        """Note an end and its reason."""
        self._note(session)

    def conflict(self, cluster_id: UUID, detail: str) -> None:
        """Note that two processes use one identity."""
        if session_log.limited.admit(str(cluster_id), Event.CONFLICT):
            logger.warning("cluster %s: %s", cluster_id, detail, extra={"cluster": str(cluster_id)})
        self._pending.of(cluster_id, time.monotonic()).conflict = (datetime.now(UTC), detail)
        self._begin()

    def refused(self, user: str, address: str, reason: str) -> None:
        """Note a sign-in that was refused.

        Each has a line in the audit log, up to 60 a minute; the number of the others has one.
        """
        try:
            self._refusal_lines.spend("all")
        except BudgetError:
            self._unlisted += 1
            return
        self._list_rest()
        self._refusals.append(
            partial(session_log.sign_in_refused, user=user, address=address, reason=reason)
        )
        self._begin()

    async def refresh(self, live: Callable[[], list[Session]]) -> None:
        """Write when each live session last spoke, and repair what the database missed.

        Args:
            live: returns the sessions that have not ended, whenever it is called.

        Raises:
            django.db.DatabaseError: if the database is away; the next call writes the same.
        """
        if self._unlisted and not self._refusals:
            self._list_rest()
            self._begin()
        waiting = self._waiting()
        sessions = sorted(live(), key=lambda one: one.serves)
        seen = {one.id: (one.cluster_id, _seen_at(one), one.link.rtt_ms()) for one in sessions}
        with self.writes.watched():
            in_database = await self._refreshing.run(session_log.sessions_seen, self._hub, seen)
        waiting |= self._waiting()  # what differs there is still being written
        for session in sessions:
            if session.id not in in_database | waiting and session.state != "gone":
                self._note(session)
        lost = in_database - set(seen) - {one.id for one in live()} - waiting
        if lost:
            await self._refreshing.run(session_log.close_sessions, lost, reason=HUB_FORGOT)

    async def flushed(self) -> None:
        """Wait until everything noted so far is written, before its turn."""
        self._hurry = True
        self._wake.set()
        try:
            await self._idle.wait()
        finally:
            self._hurry = False

    async def run(self) -> None:
        """Write what falls due, a cluster at a time, until cancelled."""
        while True:
            self._wake.clear()
            if self._refusals and not await self._write(self._refusals[0]):
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if self._refusals:
                self._refusals.popleft()
            notes = self._pending.take(time.monotonic(), early=self._hurry)
            if notes is not None:
                await self._write_notes(notes)
            elif not self._refusals:
                await self._rest()

    async def finish(self, seconds: float) -> None:
        """Give what still waits a last chance."""
        if self._unlisted:
            self._list_rest()
            self._begin()
        with contextlib.suppress(TimeoutError):  # the next start closes what stays open
            await asyncio.wait_for(self.flushed(), seconds)

    async def _rest(self) -> None:
        """Wait until a cluster falls due or something new is noted."""
        wait = self._pending.wait_seconds(time.monotonic())
        if wait is None:
            self._idle.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wake.wait()

    async def _write_notes(self, notes: ClusterNotes) -> None:
        self._writing = notes
        write = partial(
            session_log.write_sessions,
            notes.cluster_id,
            notes.facts(),
            turn=notes.turn,
            conflict=notes.conflict,
        )
        written = await self._write(write)
        self._writing = None
        if not written:
            self._pending.of(notes.cluster_id, time.monotonic()).take_over(notes)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _write(self, write: Callable[[], object]) -> bool:
        """Run a write; False if the database is away, and it has to be repeated."""
        try:
            with self.writes.watched():
                await self._database.run(write)
        except IntegrityError as exc:
            logger.warning("a session of a cluster that is gone was not written: %s", exc)
        except (DatabaseError, InterfaceError) as exc:
            logger.error("the database does not take what tunnels do (%s); trying again", exc)
            return False
        except Exception:
            self._dropped += 1
            logger.exception("what a tunnel did could not be written and is dropped")
        else:
            self.written += 1
        return True

    def _note(self, session: Session, *, soon: bool = True) -> None:
        """Note that a session has changed; its facts are taken when they are written."""
        notes = self._pending.of(session.cluster_id, time.monotonic(), soon=soon)
        self._note_turn(session, notes)
        if session.state != "gone":
            notes.live[session.id] = partial(self._facts, session)
        elif not notes.end(self._facts(session)):
            count_refusal("session_rows", "cluster")
        self._begin()

    def _note_turn(self, session: Session, notes: ClusterNotes) -> None:
        """Note whether the cluster's first session came up or its last one went."""
        serving = self._serving.setdefault(session.cluster_id, set())
        was_up = bool(serving)
        if session.serves:
            serving.add(session.id)
        else:
            serving.discard(session.id)
        if serving and not was_up:
            notes.turn.up_at = datetime.now(UTC)
        elif was_up and not serving:
            notes.turn.lost_at = session.ended_at or datetime.now(UTC)
            notes.turn.reason = session.end_reason or "no session serves"
        if not serving:
            del self._serving[session.cluster_id]

    def _list_rest(self) -> None:
        """Give the refused sign-ins without a line of their own one together."""
        if self._unlisted:
            reason = f"{self._unlisted} more sign-ins were refused, too many for a line each"
            self._unlisted = 0
            self._refusals.append(
                partial(session_log.sign_in_refused, user="", address="", reason=reason)
            )

    def _begin(self) -> None:
        self._idle.clear()
        self._wake.set()

    def _waiting(self) -> set[UUID]:
        """Return the ids of the sessions whose facts wait or are being written."""
        now = self._writing
        return {*self._pending.session_ids(), *(() if now is None else (*now.live, *now.ended))}

    def _facts(self, session: Session) -> SessionFacts:
        return SessionFacts(
            id=session.id,
            cluster_id=session.cluster_id,
            fingerprint=session.fingerprint,
            hub=self._hub,
            state=session.state,
            transport=session.transport,
            remote_address=session.remote_address,
            client_version=session.client_version,
            services=tuple(sorted(session.services)),
            connected_at=session.connected_at,
            seen_at=_seen_at(session),
            rtt_ms=session.link.rtt_ms(),
            ended_at=session.ended_at,
            end_reason=session.end_reason,
        )


def _seen_at(session: Session) -> datetime:
    return datetime.fromtimestamp(session.last_received_s(), UTC)
