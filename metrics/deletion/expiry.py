"""The deletion of expired data, in small transactions, each in the audit log.

One run deletes what is due for every cluster; it may be killed anywhere and repeated at will. A
day's deletion of a cluster is recorded in three steps: the bounds are stored before the first row
is deleted (so that queries do not rely on it), the deleted rows are counted meanwhile, and one
audit line ends it. A run that is killed in between leaves the first two to the next.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from clusters import audit, legal_holds
from clusters.health_history import delete_ended_before
from clusters.models import AuditEvent, Cluster
from metrics.models import ClusterRetention
from metrics.retention.in_force import refresh_in_force
from metrics.retention.rules import bound, bounds, complete, every_limit, horizons
from metrics.series.catalog import KINDS, LimitName
from metrics.series.windows import DAY, utc_datetime
from metrics.stores import get_store
from metrics.stores.housekeeping import MetricHousekeeping
from opscenter.core.text import iso_utc

CHUNK = 20_000
"""Buckets in one call, so that pulls never wait long for the store."""
MAX_LINES = 200
"""Maximum number of audit lines of one run; a larger fleet has several clusters per line."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Expiry:
    """The result of one run: deleted buckets by cluster and "kind tier", series, clusters."""

    buckets: Mapping[UUID, Mapping[str, int]] = field(default_factory=dict)
    series: int = 0
    erased: tuple[UUID, ...] = ()
    held: int = 0
    """Clusters of which nothing was deleted because of a legal hold."""

    @property
    def total(self) -> int:
        """Return how many buckets were deleted, over all clusters, kinds and tiers."""
        return sum(sum(tiers.values()) for tiers in self.buckets.values())


def expire_due(now: int) -> Expiry:
    """Delete expired data, and the data of deleted clusters.

    Nothing is deleted of a cluster under a legal hold, even if it is placed during the run.

    Args:
        now: current Unix time in seconds.

    Raises:
        StoreError: the store refuses; earlier deletions stay, and the next run continues.
    """
    store = get_store()
    stored = list(store.clusters())
    rows = refresh_in_force(now)  # also of clusters without a number: they have a history
    held = legal_holds.held_of({*stored, *rows})
    due = [row for pk, row in rows.items() if pk not in held and _is_due(row, now)]
    known = set(stored)
    names = dict(Cluster.objects.values_list("pk", "name"))
    share = max(1, -(-len(due) // MAX_LINES))
    buckets: dict[UUID, dict[str, int]] = {}
    series = 0
    for begin in range(0, len(due), share):
        group = due[begin : begin + share]
        for row in group:
            _sweep(store if row.pk in known else None, row, now)
        series += _close(group, names, now)
        for row in group:
            if counts := {name: part["rows"] for name, part in _gone(row).items()}:
                buckets[row.pk] = counts
    erased = _erase_deleted(store, [c for c in stored if c not in rows], held)
    return Expiry(buckets, series, erased, len(held))


def _is_due(row: ClusterRetention, now: int) -> bool:
    """Return whether a day's deletion is due, or one was begun."""
    if row.sweep or row.swept_day < now // DAY:
        return True
    reached = bounds(complete(row.limits), now)
    return any(
        reached[kind][tier] > row.gone.get(kind, {}).get(tier, 0) for kind, tier in every_limit()
    )


def _sweep(store: MetricHousekeeping | None, row: ClusterRetention, now: int) -> None:
    """Delete what is due of one cluster; ``row.sweep`` records what was deleted.

    ``store`` is None for a cluster that it has nothing of.
    """
    limits = complete(row.limits)
    reached = bounds(limits, now)
    begun = row.sweep or {"parts": {}, "series": 0, "before": row.gone}
    parts, before = begun["parts"], begun["before"]
    row.sweep = {**begun, "whole": False}
    row.gone = horizons(row.gone or None, reached)
    # Before the first deletion: from here on queries do not rely on the expired rows.
    row.save(update_fields=["sweep", "gone"])
    for kind, tier in every_limit():
        until = reached[kind][tier]
        since = before.get(kind, {}).get(tier, 0)
        while True:
            if legal_holds.is_held(row.pk):
                return
            count = _expire(store, row.pk, kind, tier, until)
            if count:
                part = parts.setdefault(f"{kind} {tier}", {"from": since, "rows": 0})
                part |= {"to": until, "rows": part["rows"] + count}
                row.save(update_fields=["sweep"])
            if count < CHUNK:
                break
    if not legal_holds.is_held(row.pk):
        by_kind = {kind: bound(now, max(limits[kind].values())) for kind in KINDS}
        if store is not None:
            row.sweep["series"] += store.forget(row.pk, min(by_kind.values()), by_kind)
        row.sweep["whole"] = True


def _expire(
    store: MetricHousekeeping | None, cluster: UUID, name: LimitName, tier: str, until: int
) -> int:
    """Delete a chunk of what is older than ``until`` (Unix seconds); return how many rows."""
    if name == "history":
        return delete_ended_before(cluster, utc_datetime(until), limit=CHUNK)
    return 0 if store is None else store.expire(cluster, name, tier, until, limit=CHUNK)


def _gone(row: ClusterRetention) -> Mapping[str, Any]:
    parts: Mapping[str, Any] = row.sweep.get("parts", {})
    return parts


def _close(group: Sequence[ClusterRetention], names: Mapping[UUID, str], now: int) -> int:
    """Write one audit line for a group of clusters and end their sweeps; return the series."""
    changed = [row for row in group if _gone(row) or row.sweep.get("series")]
    series: int = sum(row.sweep.get("series", 0) for row in changed)
    with transaction.atomic():
        if len(group) == 1 and changed:
            row = changed[0]
            detail = {"cluster": names.get(row.pk, ""), **_detail(row)}
            audit.record("metrics.expire", actor="system", cluster_id=row.pk, detail=detail)
        elif changed:
            details = {
                str(row.pk): {"cluster": names.get(row.pk, ""), **_detail(row)} for row in changed
            }
            audit.record("metrics.expire", actor="system", detail={"clusters": details})
        for row in group:
            whole = row.sweep.get("whole")
            # A deletion stopped by a hold starts again from its beginning, for the next audit line.
            left = {} if whole else {"parts": {}, "series": 0, "before": row.sweep["before"]}
            day = now // DAY if whole else row.swept_day
            ClusterRetention.objects.filter(pk=row.pk).update(sweep=left, swept_day=day)
    for row in changed:
        log.info("cluster %s: expired %s", row.pk, _detail(row))
    return series


def _detail(row: ClusterRetention) -> dict[str, Any]:
    """Return the deleted rows as stored in the audit log: kind, tier, range and number."""
    expired = []
    for name, part in _gone(row).items():
        kind, tier = name.split()
        since = iso_utc(part["from"]) if part["from"] else "the beginning"
        expired.append(
            {
                "kind": kind,
                "tier": tier,
                "from": since,
                "to": iso_utc(part["to"]),
                "rows": part["rows"],
            }
        )
    return {"expired": expired, "series": row.sweep.get("series", 0)}


def _erase_deleted(
    store: MetricHousekeeping, unknown: Iterable[UUID], held: set[UUID]
) -> tuple[UUID, ...]:
    """Erase clusters that were deleted, each with its audit line.

    A cluster that is only missing is kept: the database may be new or restored, and its metrics
    cannot be recovered. The audit log distinguishes the two.
    """
    rows = AuditEvent.objects.filter(action="cluster.delete", ok=True)
    deleted = dict(rows.values_list("cluster_id", "detail"))
    erased = []
    for cluster in unknown:
        if cluster in held:
            log.info("cluster %s was deleted, but a legal hold keeps its metrics", cluster)
        elif cluster in deleted:
            erase(store, cluster, name=str(deleted[cluster].get("name", "")))
            erased.append(cluster)
        else:
            log.warning("the metric store has cluster %s, which the database does not", cluster)
    return tuple(erased)


def erase(store: MetricHousekeeping, cluster: UUID, *, name: str) -> None:
    """Erase everything that a store has of one cluster, and record it in the audit log.

    The caller checks that no legal hold covers it.
    """
    store.erase(cluster)
    with transaction.atomic():
        ClusterRetention.objects.filter(pk=cluster).delete()
        detail = {"cluster": name, "what": "all numbers, series and the gap ledger"}
        audit.record("metrics.erase", actor="system", cluster_id=cluster, detail=detail)
    log.info("cluster %s (%s): erased its metrics", cluster, name)
