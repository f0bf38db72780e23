"""What has to be written about each cluster's sessions, and whose turn it is. Pure.

State, not events: of each session only its newest facts wait. A cluster is written at most once an
interval, however often it changes, and clusters are served in the order in which they fell due, so
that one that changes all the time delays nobody.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

MAX_ENDED = 16
"""Ended sessions of one cluster that may wait; the oldest of more is not written."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A session as the database stores it."""

    id: UUID
    cluster_id: UUID
    fingerprint: str
    hub: str
    state: str
    transport: str
    remote_address: str
    client_version: str
    services: tuple[str, ...]
    connected_at: datetime
    seen_at: datetime
    rtt_ms: float | None
    ended_at: datetime | None = None
    end_reason: str = ""


@dataclass(slots=True)
class Turn:
    """When a cluster's tunnel last came and went while nothing was written; None if it did not."""

    up_at: datetime | None = None
    lost_at: datetime | None = None
    reason: str = ""  # why it went


@dataclass(slots=True)
class ClusterNotes:
    """What waits to be written about one cluster."""

    cluster_id: UUID
    live: dict[UUID, Callable[[], SessionFacts]] = field(default_factory=dict)
    ended: dict[UUID, SessionFacts] = field(default_factory=dict)  # the first to end first
    turn: Turn = field(default_factory=Turn)
    conflict: tuple[datetime, str] | None = None

    def facts(self) -> list[SessionFacts]:
        """Return the facts of the sessions as they are now, ended ones first."""
        return [*self.ended.values(), *(facts() for facts in self.live.values())]

    def end(self, facts: SessionFacts) -> bool:
        """Note an ended session; False if an older one is left out for it."""
        self.live.pop(facts.id, None)
        self.ended[facts.id] = facts
        if len(self.ended) <= MAX_ENDED:
            return True
        del self.ended[next(iter(self.ended))]
        return False

    def take_over(self, failed: ClusterNotes) -> None:
        """Take back what could not be written, where nothing newer is known."""
        for id_, facts in failed.live.items():
            if id_ not in self.ended:
                self.live.setdefault(id_, facts)
        newer = self.ended
        self.ended = {}
        for one in (*failed.ended.values(), *newer.values()):
            self.end(one)
        self.conflict = self.conflict or failed.conflict
        self.turn.up_at = self.turn.up_at or failed.turn.up_at
        if self.turn.lost_at is None:
            self.turn.lost_at, self.turn.reason = failed.turn.lost_at, failed.turn.reason


class PendingWrites:
    """The notes of all clusters, in the order in which they fall due.

    Args:
        interval: seconds between two writes of one cluster.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._notes: dict[UUID, ClusterNotes] = {}
        self._due_s: dict[UUID, float] = {}  # of those that wait
        self._queue: list[tuple[float, int, UUID]] = []  # by time, some of them moved
        self._written: dict[UUID, float] = {}  # of the last interval
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """Return how many clusters wait."""
        return len(self._notes)

    def of(self, cluster_id: UUID, now: float, *, soon: bool = True) -> ClusterNotes:
        """Return a cluster's notes; what is put into them is written when it falls due.

        Args:
            cluster_id: the cluster.
            now: monotonic seconds.
            soon: False for what may wait an interval, as more is about to follow: a sign-in.
        """
        notes = self._notes.get(cluster_id)
        if notes is None:
            notes = self._notes[cluster_id] = ClusterNotes(cluster_id)
        last = self._written.get(cluster_id, now - self._interval)
        due = max(now if soon else now + self._interval, last + self._interval)
        if due < self._due_s.get(cluster_id, float("inf")):
            self._due_s[cluster_id] = due
            heapq.heappush(self._queue, (due, next(self._numbers), cluster_id))
        return notes

    def wait_seconds(self, now: float) -> float | None:
        """Return the seconds until a cluster falls due, 0 if one has; None if none waits."""
        while self._queue and self._due_s.get(self._queue[0][2]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return max(0.0, self._queue[0][0] - now) if self._queue else None

    def take(self, now: float, *, early: bool = False) -> ClusterNotes | None:
        """Take the notes of the cluster that fell due first; None if none is due.

        Args:
            now: monotonic seconds.
            early: take them although they are not due.
        """
        wait = self.wait_seconds(now)
        if wait is None or (wait > 0 and not early):
            return None
        _, _, cluster_id = heapq.heappop(self._queue)
        del self._due_s[cluster_id]
        self._written[cluster_id] = now
        if len(self._written) > 2 * len(self._notes) + 100:  # those that may be written again
            self._written = {
                one: at for one, at in self._written.items() if at > now - self._interval
            }
        return self._notes.pop(cluster_id)

    def session_ids(self) -> Iterator[UUID]:
        """Yield the ids of all sessions that wait."""
        for notes in self._notes.values():
            yield from notes.live
            yield from notes.ended
