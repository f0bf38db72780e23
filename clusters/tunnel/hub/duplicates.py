"""What proves that two processes use one identity, and what does not.

A copied machine has the same key, machine id, path and often address as the original, and a
stranger says what it likes. So nothing here rests on a client's word alone: what it says can prove
a second process, never that there is none.

* A session that still answers long after a newer one replaced it: an agent ends its session
  before it dials again (:mod:`agent.tunnel.client`).
* Several replaced sessions that still answered shortly after, within ten minutes: more than two
  users of a key end each other's sessions sooner than that.
* A process number that is seen again after another one: A, B, A. Each start of an agent has a
  number of its own, so the first process lived on beside the second.
* Many changes between machine ids within ten minutes.

An agent that restarts again and again has a new number each time and leaves nothing that answers; a
change of address and a half-open connection leave nothing that answers either.

Times are monotonic seconds.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from clusters.tunnel.hub.limits import Limits

_MAX_REMEMBERED = 100  # of one cluster; a client that invents numbers fills no memory


@dataclass(frozen=True, slots=True)
class Sighting:
    """Who held a cluster's key at a time, by what its session showed; "" is not known."""

    at_s: float
    address: str
    instance: str
    process: str

    def __str__(self) -> str:
        """Return the place in words."""
        known = [
            f"{name} {value}"
            for name, value in (("agent", self.instance), ("process", self.process))
            if value
        ]
        place = self.address or "an unknown address"
        return f"{place} ({', '.join(known)})" if known else place


class DuplicateEvidence:
    """The evidence of every cluster of one hub. Each method returns a proof in words, or ""."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._served: dict[UUID, list[Sighting]] = {}  # in the order of the sign-ins
        self._moves: dict[UUID, deque[float]] = {}
        self._overlaps: dict[UUID, deque[float]] = {}

    def served(self, cluster_id: UUID, session: Sighting) -> str:
        """Note a session that is ready; a process that comes back after another one is a proof."""
        seen = [*self._served.get(cluster_id, []), session]
        # One that was overtaken on its way takes its place by the time of its sign-in.
        seen.sort(key=lambda one: one.at_s)
        between = find_other_between(seen, session)
        if between is None:
            self._served[cluster_id] = _without_repeats(seen)[-_MAX_REMEMBERED:]
            return ""
        # The next proof needs another return, so that a proof's time is that of its evidence.
        self._served[cluster_id] = [session]
        return _proof(
            f"process {session.process} signed in again after another one", between, session
        )

    def moved(self, cluster_id: UUID, older: Sighting, newer: Sighting) -> str:
        """Note a replacement; too many between machines are a proof.

        A change of address alone is none: networks do that to one agent.
        """
        if not older.instance or not newer.instance or older.instance == newer.instance:
            return ""
        moves = self._count(self._moves, cluster_id)
        if moves <= self._limits.replacements:
            return ""
        return _proof(f"{moves} changes of place in {self._minutes} min", older, newer)

    def overlapped(self, cluster_id: UUID, older: Sighting, newer: Sighting) -> str:
        """Note a session that answered after it was replaced; several are a proof."""
        overlaps = self._count(self._overlaps, cluster_id)
        if overlaps < self._limits.overlaps:
            return ""
        what = f"{overlaps} replaced sessions in {self._minutes} min still answered"
        return _proof(what, older, newer)

    def outlived(self, seconds: float, older: Sighting, newer: Sighting) -> str:
        """Return the proof of a session that answers so long after it was replaced."""
        what = f"a session still answered {seconds:.0f} s after another replaced it"
        return _proof(what, older, newer)

    @property
    def _minutes(self) -> int:
        return round(self._limits.replacements_seconds / 60)

    def _count(self, events: dict[UUID, deque[float]], cluster_id: UUID) -> int:
        """Return how many events the cluster has had lately, with the one now."""
        times = events.setdefault(cluster_id, deque(maxlen=_MAX_REMEMBERED))
        times.append(time.monotonic())
        while times[0] < times[-1] - self._limits.replacements_seconds:
            times.popleft()
        return len(times)


def find_other_between(seen: list[Sighting], session: Sighting) -> Sighting | None:
    """Return another process between this one's session and an earlier one of the same process.

    Args:
        seen: sightings in the order of their sign-ins, with the session's own.
        session: whose process number is looked for; one without a number never comes back.

    Returns:
        The latest such sighting, with or without a number; None if there is none.
    """
    if not session.process:
        return None
    earlier = seen[: seen.index(session)]
    numbers = [one.process for one in earlier]
    if session.process not in numbers:
        return None
    since_first = earlier[numbers.index(session.process) :]
    others = [one for one in since_first if one.process != session.process]
    return others[-1] if others else None


def _without_repeats(seen: list[Sighting]) -> list[Sighting]:
    """Return the first sighting of each run of sessions of one process."""
    return [
        one for place, one in enumerate(seen) if not place or seen[place - 1].process != one.process
    ]


def _proof(what: str, older: Sighting, newer: Sighting) -> str:
    """Return one line: what was seen, and of whom."""
    text = f"{what}; the same key signs in from {older} and from {newer}"
    if older.instance and older.instance == newer.instance:
        text += "; both have one machine id and path, as copies of a machine have"
    return text
