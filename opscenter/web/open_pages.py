"""The open pages of this web process, looked after by time: states change by time alone.

Every :data:`LOOK_SECONDS` one query judges the clusters of all open pages, and each page is told
which of its clusters changed: without Redis and without a worker, so that silence is never taken
for no news. The same look finds what is not proven to work at the centre itself; every page is
told that too. Without Redis the pages are closed, and ask by themselves from then on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.db import DatabaseError

from clusters.models import Cluster
from clusters.selectors import cluster_overviews
from opscenter.core.realtime import needs_redis
from opscenter.monitoring.readiness import missing_parts

logger = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
LATE_SECONDS = 45.0
"""After this long without a look, a page is told that nobody looks."""

Fingerprint = tuple[object, ...]
"""What of a cluster a page shows and time changes."""


class OpenPage(Protocol):
    """One open page."""

    clusters: frozenset[UUID] | None  # those that it shows; None: all

    def changed(self, cluster: str, what: str) -> None:
        """Note that the page should fetch a cluster again."""

    def wake(self) -> None:
        """Send what is not proven to work now, and not at the next beat."""

    async def redis_lost(self) -> None:
        """Close: no message will come any more."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. ``at`` is Unix seconds."""

    at: float
    missing: Mapping[str, str] = field(default_factory=dict)  # part -> reason
    states: Mapping[UUID, Fingerprint] | None = None  # None: the clusters could not be read
    of_all: bool = False  # whether all clusters were judged


class OpenPages:
    """All open pages of one event loop, and the task that looks while there are any."""

    def __init__(self) -> None:
        self._pages: set[OpenPage] = set()
        self._task: asyncio.Task[None] | None = None
        self._last = Look(0.0)
        self._judged_at = 0.0
        self._states: Mapping[UUID, Fingerprint] = {}
        self._looking = asyncio.Lock()

    async def look_at(self, clusters: frozenset[UUID] | None) -> None:
        """Look for a page that has just been added, unless that was done lately.

        What changes from now on is then what the page has not shown.
        """
        async with self._looking:
            if time.time() - self._last.at >= LOOK_SECONDS or not self._covers(clusters):
                await self._look()

    @property
    def lost_redis(self) -> bool:
        """Return whether no message of other processes arrives, because Redis is away."""
        return "redis" in self._last.missing and needs_redis()

    def _covers(self, clusters: frozenset[UUID] | None) -> bool:
        if clusters is None:
            return self._last.of_all
        return self._last.of_all or clusters <= self._states.keys()

    def known_missing(self) -> Mapping[str, str]:
        """Return what the last look found missing; also that it is too long ago."""
        age = time.time() - self._last.at
        if 0 <= age < LATE_SECONDS:
            return self._last.missing
        return {**self._last.missing, "web": "has not looked at its clusters lately"}

    @property
    def looked_at(self) -> float:
        """Return when the clusters were last judged, in Unix seconds."""
        return self._judged_at

    def add(self, page: OpenPage) -> None:
        """Look after a page from now on."""
        self._pages.add(page)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def discard(self, page: OpenPage) -> None:
        """Forget a page; with the last one the looking ends."""
        self._pages.discard(page)
        if not self._pages and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with self._looking:
                    await self._look()
            except Exception:
                logger.exception("the clusters of open pages were not judged")

    async def _look(self) -> None:
        """Look once, and tell the pages what is new."""
        look = await database_sync_to_async(take_look, thread_sensitive=False)(
            _union(page.clusters for page in self._pages)
        )
        news, self._last = look.missing.keys() != self._last.missing.keys(), look
        if look.states is not None:
            self._judged_at = look.at
            self._tell(look.states)
        if self.lost_redis:
            for page in list(self._pages):
                await page.redis_lost()
        elif news:
            for page in self._pages:
                page.wake()

    def _tell(self, states: Mapping[UUID, Fingerprint]) -> None:
        """Tell each page which of its clusters are no longer as they were at the last look."""
        before, self._states = self._states, states
        changed = {each for each in before if states.get(each) != before[each]}
        for page in self._pages if changed else ():
            for each in changed if page.clusters is None else changed & page.clusters:
                page.changed(str(each), "health")


def take_look(clusters: Iterable[UUID] | None, now: float | None = None) -> Look:
    """Judge clusters, with one query, and find what is not proven to work. Call it in a thread.

    Args:
        clusters: the ids of those to judge; None for all.
        now: Unix seconds; the current time if None.
    """
    now = time.time() if now is None else now
    missing = missing_parts(now)
    query = Cluster.objects.all()
    if clusters is not None:
        query = query.filter(pk__in=list(clusters))
    try:
        overviews = cluster_overviews(query, datetime.fromtimestamp(now, UTC))
    except DatabaseError as exc:
        logger.warning("the clusters of open pages cannot be read: %s", exc)
        return Look(now, {"database": "does not answer", **missing})
    states: dict[UUID, Fingerprint] = {
        each.id: (each.health, each.tunnel.state, each.conflict_at) for each in overviews
    }
    return Look(now, missing, states, of_all=clusters is None)


def _union(sets: Iterable[frozenset[UUID] | None]) -> set[UUID] | None:
    """Return all clusters of several pages; None if one of them shows all there are."""
    found: set[UUID] = set()
    for each in sets:
        if each is None:
            return None
        found |= each
    return found


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, OpenPages] = WeakKeyDictionary()


def open_pages() -> OpenPages:
    """Return the open pages of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loops:
        _of_loops[loop] = OpenPages()
    return _of_loops[loop]
