"""Write the history of a cluster's state and findings: a row from the beginning to the end of each.

It is written where the health is recorded, in the same transaction, with the status row locked.
What is open is compared with what was found, so that the same health twice changes nothing and a
killed process leaves nothing half written.

* *at* is by evidence. Later evidence may move the beginning of an open row back, never forward,
  and not into the row before it; a filled gap corrects closed rows too
  (:mod:`clusters.history_corrections`). *Known at* is the time of recording and never changes.
* What nobody can see any more is not over: its row ends as *not known since*.
* A cluster that changes all the time fills :data:`MAX_STATES` and :data:`MAX_FINDINGS_A_DAY` rows
  of a day and no more. Then its state is *unknown*, one row counts what is left out, and the next
  day begins with what is true then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Max

from clusters.health import Health
from clusters.health_facts import Facts
from clusters.health_json import MAX_FINDINGS
from clusters.models import Cluster, ClusterEvent, ClusterStatus
from opscenter.core.text import one_line

STATE = "state"
"""The key of the rows of the state; every other key is a finding's."""
LEFT_OUT = "left_out"
"""The key of the row that counts the changes of a day that are not kept."""
MAX_STATES = 200
MAX_FINDINGS_A_DAY = 300
_KEY, _TEXT = 500, 500  # bytes of a key, characters of a text
_STALE = frozenset({"tunnel", "data"})  # findings that say that nothing newer is known
_DAY = 86_400

Ending = ClusterEvent.Ending


@dataclass(frozen=True, slots=True)
class _Span:
    """What is true now: one row that should be open."""

    key: str
    level: str
    text: str
    since: datetime
    at_least: bool = False


def is_due(current: ClusterStatus, now: datetime) -> bool:
    """Return whether to write although nothing changed: what a day before left out."""
    written: Mapping[str, Any] = current.history_day
    return bool(written.get("left_out")) and written.get("day") != _day(now)


def write_history(cluster: Cluster, health: Health, facts: Facts, now: datetime) -> None:
    """Close the rows of what is over and open those of what began; 1 to 4 queries.

    Call it in a transaction with the cluster's status row locked, and save the status'
    ``history_day`` afterwards.

    Args:
        cluster: the cluster, with its status.
        health: what is recorded from now on.
        facts: what it was judged from.
        now: time of the recording, aware.
    """
    current: ClusterStatus = cluster.current
    rows = {row.key: row for row in ClusterEvent.objects.filter(cluster=cluster, ended_at=None)}
    written = written_today(current, now)
    wanted = _within_limits(_spans(health, now), rows, written)
    bounds = _ends_before(cluster, wanted, rows, now)
    changed, new = [], []
    for key, row in rows.items():
        span = wanted.get(key)
        if span is None:
            _end(row, *_ending_of(row, health, facts, now), now)
            changed.append(row)
        elif span.level != row.level:
            ending = Ending.NOT_KNOWN if span.level == "unknown" else Ending.CHANGED
            _end(row, min(span.since, now), ending, now)
            bounds[key] = min(row.ended_at or now, now)
            changed.append(row)
        elif _correct(row, span, bounds.get(key)):
            changed.append(row)
    for key, span in wanted.items():
        if key not in rows or rows[key].ended_at is not None:
            new.append(_row(cluster, span, bounds.get(key), now))
    if changed:
        ClusterEvent.objects.bulk_update(changed, _COLUMNS)
    ClusterEvent.objects.bulk_create(new)
    current.history_day = written


_COLUMNS = ("text", "began_at", "began_at_least", "ended_at", "ended_known_at", "ending")


def delete_ended_before(cluster_id: UUID, moment: datetime, *, limit: int) -> int:
    """Delete rows that ended before a moment, at most ``limit``; return how many.

    A row that reaches beyond the moment, or is open, stays whole. The caller checks legal holds.
    """
    old = ClusterEvent.objects.filter(cluster_id=cluster_id, ended_at__lt=moment)
    chosen = list(old.order_by("ended_at").values_list("pk", flat=True)[:limit])
    for start in range(0, len(chosen), 500):
        ClusterEvent.objects.filter(pk__in=chosen[start : start + 500]).delete()
    return len(chosen)


def _spans(health: Health, now: datetime) -> list[_Span]:
    """Return the state and then the findings, worst first; one of each key."""
    state = _Span(
        STATE, health.state, one_line(health.reason, _TEXT), health.since or now, health.at_least
    )
    spans = {STATE: state}
    for one in health.findings[:MAX_FINDINGS]:
        key = stored_key(one.key)
        text = one_line(one.text, _TEXT)
        spans.setdefault(key, _Span(key, one.level, text, one.since or now, one.at_least))
    return list(spans.values())


def stored_key(key: str) -> str:
    """Return a finding's key as it is stored: one line; a long one with a digest at its end."""
    clean = one_line(key, _KEY)
    if clean == key and len(key.encode()) <= _KEY:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{clean.encode()[: _KEY - 20].decode('utf-8', 'ignore')} {digest}"


def _day(now: datetime) -> int:
    return int(now.timestamp()) // _DAY


def written_today(current: ClusterStatus, now: datetime) -> dict[str, int]:
    """Return how many rows were added on this day (UTC), and how many changes were left out."""
    written: dict[str, int] = current.history_day
    if written.get("day") == _day(now):
        return dict(written)
    return {"day": _day(now), "states": 0, "findings": 0, "left_out": 0}


def _within_limits(
    spans: Sequence[_Span], rows: Mapping[str, ClusterEvent], written: dict[str, int]
) -> dict[str, _Span]:
    """Return what should be open, by key, within the limits of a day; count in ``written``."""
    wanted: dict[str, _Span] = {}
    for span in spans:
        is_state = span.key == STATE
        row = rows.get(span.key)
        if row is None or row.level != span.level:
            count, most = ("states", MAX_STATES) if is_state else ("findings", MAX_FINDINGS_A_DAY)
            if written[count] < most:
                written[count] += 1
            else:
                written["left_out"] += 1
                if not is_state:
                    continue
                # Whatever it is now, the row must not say that it stayed as it was.
                span = replace(span, level="unknown", text=_left_out_text(written))  # noqa: PLW2901
        wanted[span.key] = span
    if written["left_out"]:
        since = spans[0].since
        wanted[LEFT_OUT] = _Span(LEFT_OUT, "note", _left_out_text(written), since)
    return wanted


def count_left_out(cluster_id: UUID, written: Mapping[str, int], now: datetime) -> bool:
    """Write the row that counts what was left out today, if that is more; return whether it is."""
    if not written["left_out"]:
        return False
    text = _left_out_text(written)
    row, _ = ClusterEvent.objects.get_or_create(
        cluster_id=cluster_id, key=LEFT_OUT, ended_at=None,
        defaults={"level": "note", "text": "", "began_at": now, "began_known_at": now},
    )  # fmt: skip
    return bool(ClusterEvent.objects.filter(pk=row.pk).exclude(text=text).update(text=text))


def _left_out_text(written: Mapping[str, int]) -> str:
    return f"more changes than are kept of a day: {written['left_out']} were left out"


def _ends_before(
    cluster: Cluster, wanted: Mapping[str, _Span], rows: Mapping[str, ClusterEvent], now: datetime
) -> dict[str, datetime | None]:
    """Return when the newest closed row of a key ended, of those that begin or may move back.

    Not later than now: what a clock that was ahead wrote does not push later rows into the future.
    """
    keys = [
        key
        for key, span in wanted.items()
        if key not in rows or (span.level == rows[key].level and span.since < rows[key].began_at)
    ]
    if not keys:
        return {}
    closed = ClusterEvent.objects.filter(cluster=cluster, key__in=keys, ended_at__isnull=False)
    ends = closed.values_list("key").annotate(Max("ended_at")).order_by()
    return {key: min(end, now) for key, end in ends}


def _ending_of(
    row: ClusterEvent, health: Health, facts: Facts, now: datetime
) -> tuple[datetime, Ending]:
    """Return when something ended that is not found any more, and whether it is over."""
    as_of = min(facts.data_as_of or now, now)
    keys = {one.key for one in health.findings}
    if row.key in (LEFT_OUT, "clock", "conflict"):
        return now, Ending.OVER
    if health.state in ("pending", "revoked"):
        return now, Ending.NOT_KNOWN
    if keys & _STALE:
        if row.key in _STALE:
            return now, Ending.OVER
        return health.since or as_of, Ending.NOT_KNOWN
    return as_of, Ending.OVER


def _end(row: ClusterEvent, at: datetime, ending: Ending, now: datetime) -> None:
    row.ended_at = max(row.began_at, at)
    row.ended_known_at = max(row.began_known_at, now)
    row.ending = ending


def _correct(row: ClusterEvent, span: _Span, bound: datetime | None) -> bool:
    """Take over what newer evidence says of an open row; return whether that changes it."""
    before = (row.text, row.began_at, row.began_at_least)
    row.text = span.text
    if span.since <= row.began_at:
        row.began_at = span.since if bound is None else min(row.began_at, max(span.since, bound))
        row.began_at_least = span.at_least and row.began_at == span.since
    return before != (row.text, row.began_at, row.began_at_least)


def _row(cluster: Cluster, span: _Span, bound: datetime | None, now: datetime) -> ClusterEvent:
    began = min(span.since, now)
    if bound is not None:
        began = max(began, bound)
    return ClusterEvent(
        cluster=cluster, key=span.key, level=span.level, text=span.text, began_at=began,
        began_at_least=span.at_least and began == span.since, began_known_at=now,
    )  # fmt: skip


def findings_differ(health: Health, recorded: Health) -> bool:
    """Return whether the findings, their levels or their since are others than recorded."""
    return _outline(health) != _outline(recorded)


def _outline(health: Health) -> list[tuple[Any, ...]]:
    found: Iterable[Any] = health.findings[:MAX_FINDINGS]
    return [(one.key, one.level, one.since, one.at_least) for one in found]
