"""Write into the history what a filled gap proves (:mod:`clusters.history_rules` has the rules).

In one transaction, with the status row locked like every other writer of the history. Rows that
are added count towards the day's limits of :mod:`clusters.health_history`, and what finds no room
is counted in the same row of what was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from clusters import health_history
from clusters.health_history import STATE, stored_key
from clusters.history_rules import (
    NEAR,
    Evidence,
    Room,
    Row,
    correct_findings,
    correct_states,
)
from clusters.models import ClusterEvent, ClusterStatus
from opscenter.core import realtime
from opscenter.core.text import one_line

_COLUMNS = tuple(one.name for one in fields(Row) if one.name != "pk")
_MOVED = ("began_at", "began_at_least", "ended_at", "ended_known_at", "ending")


@dataclass(slots=True)
class _Corrected:
    """The rows of a time, before and after; and what was proven."""

    before: dict[int, Row]
    after: list[Row] = field(default_factory=list)
    proven: list[Evidence] = field(default_factory=list)

    def take(self, rows: Iterable[Row]) -> None:
        """Note rows that differ from what is stored."""
        self.after += [row for row in rows if row.pk is None or row != self.before[row.pk]]


def keys_within(cluster_id: UUID, start: datetime, end: datetime) -> set[str]:
    """Return the stored keys of the findings that minutes of ``[start, end)`` may correct.

    Only their evidence of *well* matters; what was off matters of every key. One query.
    """
    found = _rows_within(cluster_id, start, end).exclude(key=STATE)
    open_ended = found.filter(Q(began_at_least=True) | Q(ending=ClusterEvent.Ending.NOT_KNOWN))
    return set(open_ended.values_list("key", flat=True))


def correct_history(
    cluster_id: UUID, start: datetime, end: datetime, told: Sequence[Evidence], now: datetime
) -> int:
    """Correct the rows of ``[start, end)`` and beside it; return how many were changed or added.

    Args:
        cluster_id: a cluster that is gone has no history any more.
        start: start of the time that was filled, by our clock.
        end: its end.
        told: what its minutes say: everything that was off, and of :func:`keys_within` also when
            it was well.
        now: when that became known, aware.
    """
    if not told:
        return 0
    with transaction.atomic():
        current = (
            ClusterStatus.objects.select_for_update(of=("self",))
            .filter(cluster_id=cluster_id)
            .first()
        )
        if current is None:
            return 0
        stored = [_row(event) for event in _rows_within(cluster_id, start, end)]
        done = _Corrected({row.pk: row for row in stored if row.pk is not None})
        written = health_history.written_today(current, now)
        _correct(stored, told, written, done, now)
        left_out = health_history.count_left_out(cluster_id, written, now)
        current.history_day = written
        if done.after or left_out:
            _write(cluster_id, done.after)
            current.save(update_fields=["history_day"])
            realtime.publish_on_commit(cluster_id, "health")
    return len(done.after)


def _correct(
    stored: Sequence[Row],
    told: Sequence[Evidence],
    written: dict[str, int],
    done: _Corrected,
    now: datetime,
) -> None:
    """Fill ``done`` with what changes, and ``written`` with what was added and left out."""
    findings = Room(health_history.MAX_FINDINGS_A_DAY - written["findings"])
    by_key: dict[str, list[Evidence]] = {}
    for one in told:
        by_key.setdefault(stored_key(one.key), []).append(one)
    rows: dict[str, list[Row]] = {}
    for row in stored:
        rows.setdefault(row.key, []).append(row)
    for key, about in by_key.items():
        corrected, proven = correct_findings(rows.get(key, ()), about, findings, now)
        done.take(corrected)
        done.proven += proven
    states = Room(health_history.MAX_STATES - written["states"])
    done.take(correct_states(rows.get(STATE, ()), done.proven, states, now))
    written["findings"] = health_history.MAX_FINDINGS_A_DAY - findings.rows
    written["states"] = health_history.MAX_STATES - states.rows
    written["left_out"] += findings.left_out + states.left_out


def _rows_within(cluster_id: UUID, start: datetime, end: datetime) -> QuerySet[ClusterEvent]:
    return ClusterEvent.objects.filter(
        Q(ended_at=None) | Q(ended_at__gte=start - NEAR),
        cluster_id=cluster_id, began_at__lte=end + NEAR,
    )  # fmt: skip


def _row(event: ClusterEvent) -> Row:
    return Row(event.pk, **{name: getattr(event, name) for name in _COLUMNS})


def _write(cluster_id: UUID, rows: Iterable[Row]) -> None:
    """Write rows; those that end first, for only one of a key may be open."""
    changed = [_event(cluster_id, row) for row in rows if row.pk is not None]
    ClusterEvent.objects.bulk_update(changed, _MOVED)
    ClusterEvent.objects.bulk_create(_event(cluster_id, row) for row in rows if row.pk is None)


def _event(cluster_id: UUID, row: Row) -> ClusterEvent:
    columns = {name: getattr(row, name) for name in _COLUMNS}
    columns["key"] = stored_key(row.key)
    columns["text"] = one_line(row.text, 500)
    return ClusterEvent(pk=row.pk, cluster_id=cluster_id, **columns)
