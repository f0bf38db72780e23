"""How much is kept of the tunnels that were: the newest of each cluster, short ones folded.

A cluster that signs in and hangs up all the time would otherwise fill the table, and push its own
longer tunnels out of what is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Count

from clusters import legal_holds
from clusters.models import TunnelSession

logger = logging.getLogger(__name__)

KEPT = 2000
"""Ended tunnels of one cluster that are kept; older ones are deleted."""
SHORT = timedelta(seconds=60)
"""A tunnel that lived for less may be folded."""
NEAR = timedelta(minutes=10)
"""How soon after its predecessor it must have begun."""
DETAIL = timedelta(hours=1)
"""The newest stay as they are: whoever looks for a fault sees each."""
MANY = 20
"""Tunnels of one cluster in :data:`WINDOW` above which short ones are folded."""
WINDOW = timedelta(hours=6)
_CHUNK = 500  # rows in one statement


@dataclass(slots=True)
class Folded:
    """What becomes of a cluster's rows: those that stay with what is folded into them."""

    gone: list[UUID] = field(default_factory=list)
    kept: dict[UUID, tuple[int, datetime]] = field(default_factory=dict)  # number, until when


def trim_sessions(now: datetime) -> int:
    """Fold short tunnels and delete the oldest, of every cluster that has too many.

    Clusters under a legal hold keep all rows: six sign-ins a minute bound those.

    Returns:
        How many rows were deleted.
    """
    deleted = 0
    for cluster_id in _not_held(_clusters_with(MANY, connected_at__gte=now - WINDOW)):
        deleted += _fold(cluster_id, now)
    for cluster_id in _not_held(_clusters_with(KEPT)):
        deleted += _delete_oldest(cluster_id)
    if deleted:
        logger.info("rows of ended tunnels that were folded or deleted: %d", deleted)
    return deleted


def fold(sessions: Iterable[TunnelSession], before: datetime) -> Folded:
    """Decide which short tunnels go into their predecessors. Touches no database.

    The predecessor's own times stay: what is folded into it is only counted, so that nothing says
    that the tunnel was up where it was not.

    Args:
        sessions: of one cluster, the oldest first.
        before: only what ended before is folded.
    """
    found = Folded()
    last: TunnelSession | None = None
    for one in sessions:
        if last is None or not _belongs_to(one, last, before):
            last = one
            continue
        until = max(filter(None, (one.folded_until, one.ended_at)))
        last.folded, last.folded_until = last.folded + 1 + one.folded, until
        found.gone.append(one.pk)
        found.kept[last.pk] = (last.folded, until)
    return found


def _belongs_to(one: TunnelSession, last: TunnelSession, before: datetime) -> bool:
    """Return whether a tunnel is short and followed soon upon one that has ended."""
    if one.ended_at is None or last.ended_at is None or one.ended_at >= before:
        return False
    end = last.folded_until or last.ended_at
    return one.ended_at - one.connected_at < SHORT and one.connected_at - end < NEAR


def _fold(cluster_id: UUID, now: datetime) -> int:
    rows = TunnelSession.objects.filter(cluster_id=cluster_id, connected_at__gte=now - WINDOW)
    columns = ("connected_at", "ended_at", "folded", "folded_until")
    found = fold(rows.only(*columns).order_by("connected_at", "id"), now - DETAIL)
    with transaction.atomic():
        for pk, (number, until) in found.kept.items():
            TunnelSession.objects.filter(pk=pk).update(folded=number, folded_until=until)
        for begin in range(0, len(found.gone), _CHUNK):
            TunnelSession.objects.filter(pk__in=found.gone[begin : begin + _CHUNK]).delete()
    return len(found.gone)


def _delete_oldest(cluster_id: UUID) -> int:
    """Delete a cluster's ended tunnels beyond the newest :data:`KEPT`."""
    ended = TunnelSession.objects.filter(cluster_id=cluster_id).exclude(ended_at=None)
    deleted = 0
    while True:
        oldest = ended.order_by("-connected_at", "id").values_list("pk", flat=True)
        pks = list(oldest[KEPT : KEPT + _CHUNK])
        deleted += TunnelSession.objects.filter(pk__in=pks).delete()[0]
        if len(pks) < _CHUNK:
            return deleted


def _clusters_with(more_than: int, **filters: object) -> list[UUID]:
    """Return the clusters with more rows than a number."""
    rows = TunnelSession.objects.filter(**filters).order_by().values("cluster_id")
    many = rows.annotate(rows=Count("pk")).filter(rows__gt=more_than)
    return list(many.values_list("cluster_id", flat=True))


def _not_held(cluster_ids: list[UUID]) -> list[UUID]:
    held = legal_holds.held_of(cluster_ids)
    return [one for one in cluster_ids if one not in held]
