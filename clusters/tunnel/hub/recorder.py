"""Carry what happens to sessions from the event loop to the database, in order.

The loop never waits for the database: events queue here and one thread writes them. A database
that is away only delays them; the next refresh, which compares the live sessions with the rows,
repairs what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
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

from clusters.tunnel.hub import session_log
from clusters.tunnel.hub.refusals import Event
from clusters.tunnel.hub.session_log import SessionFacts
from clusters.tunnel.hub.sessions import Session
from clusters.tunnel.hub.write_state import WriteState

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_MAX_QUEUE = 20_000
_RETRY_SECONDS = 2.0


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
    """Records the sessions of one hub. The methods return at once and never raise."""

    def __init__(self, hub: str, database: DatabaseThread, refreshing: DatabaseThread) -> None:
        self._hub = hub
        self._database = database
        # Refreshes do not wait behind events, whose live updates may wait for Redis.
        self._refreshing = refreshing
        self._queue: deque[Callable[[], object]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.writes = WriteState()
        self._dropped = 0

    @property
    def failures(self) -> int:
        """Return how many writes failed since the start."""
        return self._dropped + self.writes.failures

    def opened(self, session: Session) -> None:
        """Note a sign-in."""
        self._put(partial(session_log.session_opened, self._facts(session)))

    def changed(self, session: Session) -> None:
        """Note a new state or set of services."""
        self._put(partial(session_log.session_changed, self._facts(session)))

    def closed(self, session: Session) -> None:
        """Note an end and its reason."""
        self._put(
            partial(
                session_log.session_closed,
                self._facts(session),
                at=datetime.now(UTC),
                reason=session.end_reason,
            )
        )

    def conflict(self, cluster_id: UUID, detail: str) -> None:
        """Note that two processes use one identity."""
        if session_log.limited.admit(str(cluster_id), Event.CONFLICT):
            logger.warning("cluster %s: %s", cluster_id, detail, extra={"cluster": str(cluster_id)})
        self._put(
            partial(session_log.flag_conflict, cluster_id, detail=detail, at=datetime.now(UTC))
        )

    def refused(self, user: str, address: str, reason: str) -> None:
        """Note a sign-in that was refused; the caller limits how often."""
        self._put(partial(session_log.sign_in_refused, user=user, address=address, reason=reason))

    async def refresh(self, live: Callable[[], list[Session]]) -> None:
        """Write when each live session last spoke, and repair what the database missed.

        Args:
            live: returns the sessions that have not ended, whenever it is called.

        Raises:
            django.db.DatabaseError: if the database is away; the next call writes the same.
        """
        behind = not self._idle.is_set()
        sessions = sorted(live(), key=lambda one: one.serves)
        seen = {one.id: (one.cluster_id, _seen_at(one), one.link.rtt_ms()) for one in sessions}
        with self.writes.watched():
            in_database = await self._refreshing.run(session_log.sessions_seen, self._hub, seen)
        if behind or not self._idle.is_set():
            return  # what differs now is still being written
        for session in sessions:
            if session.id not in in_database and session.state != "gone":
                self.opened(session)
                self.changed(session)
        lost = in_database - set(seen) - {one.id for one in live()}
        if lost:
            await self._refreshing.run(
                session_log.close_sessions, lost, reason="the hub lost track of it"
            )

    async def flushed(self) -> None:
        """Wait until everything noted so far is written."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write events one by one until cancelled; one that fails is tried again."""
        while True:
            await self._wake.wait()
            while self._queue:
                event = self._queue.popleft()
                if not await self._write(event):
                    self._queue.appendleft(event)
                    await asyncio.sleep(_RETRY_SECONDS)
            self._wake.clear()
            self._idle.set()

    async def finish(self, seconds: float) -> None:
        """Give what is still queued a last chance."""
        with contextlib.suppress(TimeoutError):  # the next start closes what stays open
            await asyncio.wait_for(self.flushed(), seconds)

    async def _write(self, event: Callable[[], object]) -> bool:
        try:
            with self.writes.watched():
                await self._database.run(event)
        except IntegrityError as exc:
            logger.warning("an event of a cluster that is gone was not written: %s", exc)
        except (DatabaseError, InterfaceError) as exc:
            logger.error("the database does not take tunnel events (%s); trying again", exc)
            return False
        except Exception:
            self._dropped += 1
            logger.exception("a tunnel event could not be written and is dropped")
        return True

    def _put(self, event: Callable[[], object]) -> None:
        if len(self._queue) >= _MAX_QUEUE:
            self._queue.popleft()  # the refresh repairs it
        self._queue.append(event)
        self._idle.clear()
        self._wake.set()

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
        )


def _seen_at(session: Session) -> datetime:
    return datetime.fromtimestamp(session.last_received_s(), UTC)
