"""Read the history of a cluster's state and findings (:mod:`clusters.health_history` writes it).

Spans are Unix seconds, end exclusive. What nobody recorded has no state; it is never taken for the
state before or after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.db.models import Count, Min, Q, QuerySet

from clusters.health import WORST_FIRST, Health
from clusters.health_history import STATE
from clusters.models import Cluster, ClusterEvent

_RANK: dict[str, int] = {state: rank for rank, state in enumerate(WORST_FIRST)}


@dataclass(frozen=True, slots=True)
class StatePart:
    """A span in one state.

    Attributes:
        start, end: Unix seconds.
        state: the state; "" where nothing is recorded.
    """

    start: int
    end: int
    state: str

    @property
    def seconds(self) -> int:
        """Return the length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class RecordedState:
    """A row of the state, in Unix seconds; ``end`` is None while it is open."""

    state: str
    start: float
    end: float | None


def events_of(
    cluster: Cluster, start: datetime | None = None, end: datetime | None = None, key: str = ""
) -> QuerySet[ClusterEvent]:
    """Return what was so at any time in ``[start, end)``, by evidence; the newest first.

    Args:
        cluster: the cluster.
        start: None for the beginning.
        end: None for now.
        key: only of this key, ``state`` or a finding's; "" for all.
    """
    found = ClusterEvent.objects.filter(cluster=cluster)
    if key:
        found = found.filter(key=key)
    if start is not None:
        found = found.filter(Q(ended_at=None) | Q(ended_at__gt=start))
    if end is not None:
        found = found.filter(began_at__lt=end)
    return found.order_by("-began_at", "-pk")


def ended_between(cluster_id: UUID, start: datetime, end: datetime) -> tuple[int, int | None]:
    """Return how many rows ended in ``[start, end)``, and when the oldest began in Unix seconds."""
    found = ClusterEvent.objects.filter(
        cluster_id=cluster_id, ended_at__gte=start, ended_at__lt=end
    ).aggregate(count=Count("pk"), oldest=Min("began_at"))
    oldest = found["oldest"]
    return found["count"], None if oldest is None else int(oldest.timestamp())


def states_of(clusters: Iterable[UUID], start: int, end: int) -> dict[UUID, list[RecordedState]]:
    """Return the recorded states of clusters in ``[start, end)``, oldest first. One query."""
    found: dict[UUID, list[RecordedState]] = {pk: [] for pk in clusters}
    rows = ClusterEvent.objects.filter(
        Q(ended_at=None) | Q(ended_at__gt=_moment(start)),
        cluster__in=list(found), key=STATE, began_at__lt=_moment(end),
    )  # fmt: skip
    columns = rows.order_by("began_at", "pk").values_list(
        "cluster_id", "level", "began_at", "ended_at"
    )
    for pk, level, began, ended in columns.iterator(chunk_size=2000):
        until = None if ended is None else ended.timestamp()
        found[pk].append(RecordedState(level, began.timestamp(), until))
    return found


def state_parts(
    rows: Sequence[RecordedState], start: int, end: int, health: Health, now: int
) -> list[StatePart]:
    """Return parts that cover ``[start, end)`` without gaps or overlaps; pure.

    What is recorded last holds until now only if it is also what is true now: while nobody
    recorded anything, an open row says nothing.

    Args:
        rows: as from :func:`states_of`.
        start: start of the span.
        end: its end, not after ``now``.
        health: of now, judged at the moment of reading.
        now: current time.
    """
    spans: list[tuple[str, float, float | None]] = [(row.state, row.start, row.end) for row in rows]
    since = now if health.since is None else health.since.timestamp()
    if spans and spans[-1][2] is None:
        state, began, _ = spans.pop()
        spans.append((state, began, now if state == health.state else min(max(began, since), now)))
    if health.since is not None and (not spans or spans[-1][0] != health.state):
        last = spans[-1][2] if spans else None
        spans.append((health.state, max(since, last or 0), now))
    parts: list[StatePart] = []
    at = start
    for state, began, until in spans:
        first, last_at = max(at, int(began)), min(end, int(until or now))
        if last_at <= first:
            continue
        if first > at:
            _append(parts, StatePart(at, first, ""))
        _append(parts, StatePart(first, last_at, state))
        at = last_at
    if at < end:
        _append(parts, StatePart(at, end, ""))
    return parts


def worst_cells(parts: Sequence[StatePart], start: int, end: int, width: int) -> list[StatePart]:
    """Return one cell for each ``width`` seconds of ``[start, end)``, with its worst state; pure.

    Args:
        parts: as from :func:`state_parts`, ascending.
        start: start of the span.
        end: its end; the last cell may be shorter.
        width: seconds of a cell.
    """
    cells = []
    index = 0
    for at in range(start, end, width):
        until = min(at + width, end)
        worst = ""
        while index < len(parts) and parts[index].end <= at:
            index += 1
        for part in parts[index:]:
            if part.start >= until:
                break
            if part.state and (not worst or _rank(part.state) < _rank(worst)):
                worst = part.state
        cells.append(StatePart(at, until, worst))
    return cells


def seconds_by_state(parts: Iterable[StatePart]) -> Mapping[str, int]:
    """Return how long each state lasted in all, worst first; "" is what is not recorded."""
    sums: dict[str, int] = {}
    for part in parts:
        sums[part.state] = sums.get(part.state, 0) + part.seconds
    return {state: sums[state] for state in (*WORST_FIRST, "") if state in sums}


def _append(parts: list[StatePart], part: StatePart) -> None:
    if parts and parts[-1].state == part.state:
        part = StatePart(parts.pop().start, part.end, part.state)
    parts.append(part)


def _rank(state: str) -> int:
    return _RANK.get(state, _RANK["unknown"])


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
