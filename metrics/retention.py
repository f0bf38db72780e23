"""How long which tier of which cluster is kept, and the deletion of what is older."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from clusters import audit
from clusters.models import AuditEvent, Cluster
from metrics.catalog import FIELD_NAMES, TIERS
from metrics.models import CustomerRetention, RetentionClass
from metrics.rollups import bucket_start
from metrics.stores import get_store
from metrics.stores.base import MetricStore

DAY = 86_400
CHUNK = 20_000  # buckets in one call, so that pulls never wait long for the file

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """A class's durations: tier name -> seconds."""

    name: str
    seconds: Mapping[str, int]

    @property
    def longest(self) -> int:
        """Return how long the longest-kept tier is kept, in seconds."""
        return max(self.seconds.values())


@dataclass(frozen=True, slots=True)
class Expiry:
    """What one run deleted: buckets by cluster and tier, series, erased clusters."""

    buckets: Mapping[UUID, Mapping[str, int]] = field(default_factory=dict)
    series: int = 0
    erased: tuple[UUID, ...] = ()

    @property
    def total(self) -> int:
        """Return how many buckets went, over all clusters and tiers."""
        return sum(sum(tiers.values()) for tiers in self.buckets.values())


def retention_of(cluster: Cluster) -> Retention:
    """Return the retention of a cluster: its customer's class, else the default. 1-2 queries."""
    if cluster.customer_id is not None:
        chosen = (
            CustomerRetention.objects.filter(customer_id=cluster.customer_id)
            .select_related("retention_class")
            .first()
        )
        if chosen is not None:
            return _retention(chosen.retention_class)
    return _default()


def expire_due(now: int) -> Expiry:
    """Delete what is older than its retention, and the rest of deleted clusters.

    Works through the store in small transactions; may run at any time and any number of times.
    Bounds are rounded down to the hour, so that no wider bucket is left with a part of its
    minutes. Each cluster's deletions are logged, and the run leaves one audit line if it deleted
    anything.

    Args:
        now: Unix time.

    Raises:
        StoreError: the store refuses; what was deleted before stays deleted.
    """
    store = get_store()
    stored = list(store.clusters())
    retentions = _retentions(stored)
    buckets: dict[UUID, dict[str, int]] = {}
    series = 0
    for cluster, retention in retentions.items():
        gone = _expire_cluster(store, cluster, retention, now)
        series += store.forget(cluster, _bound(now, retention.longest))
        if gone:
            buckets[cluster] = gone
            log.info("retention %r: cluster %s: deleted %s", retention.name, cluster, gone)
    erased = _erase_deleted(store, [c for c in stored if c not in retentions])
    expiry = Expiry(buckets, series, erased)
    if expiry.total or series or erased:
        _audit(expiry)
    return expiry


def _bound(now: int, seconds: int) -> int:
    return bucket_start(now - seconds, TIERS["1h"])


def _expire_cluster(
    store: MetricStore, cluster: UUID, retention: Retention, now: int
) -> dict[str, int]:
    gone: dict[str, int] = {}
    for tier, seconds in retention.seconds.items():
        before = _bound(now, seconds)
        for kind in FIELD_NAMES:
            while count := store.expire(cluster, kind, tier, before, limit=CHUNK):
                gone[tier] = gone.get(tier, 0) + count
                if count < CHUNK:
                    break
    return gone


def _retentions(stored: Iterable[UUID]) -> dict[UUID, Retention]:
    """Return the retention of every stored cluster that still exists. Three queries."""
    default = _default()
    by_customer = {
        row.customer_id: _retention(row.retention_class)
        for row in CustomerRetention.objects.select_related("retention_class")
    }
    customers = dict(Cluster.objects.values_list("id", "customer_id"))
    return {
        cluster: by_customer.get(customer, default) if (customer := customers[cluster]) else default
        for cluster in stored
        if cluster in customers
    }


def _erase_deleted(store: MetricStore, unknown: Iterable[UUID]) -> tuple[UUID, ...]:
    """Erase clusters that were deleted.

    A cluster that is merely absent is kept: the database may be a new or an older one, and its
    metrics cannot be had again. The audit log tells the two apart.
    """
    deleted = set(
        AuditEvent.objects.filter(action="cluster.delete", ok=True).values_list(
            "cluster_id", flat=True
        )
    )
    erased = []
    for cluster in unknown:
        if cluster in deleted:
            store.erase(cluster)
            log.info("cluster %s was deleted: erased its metrics", cluster)
            erased.append(cluster)
        else:
            log.warning("the metric store holds cluster %s, which the database does not", cluster)
    return tuple(erased)


def _audit(expiry: Expiry) -> None:
    tiers: dict[str, int] = {}
    for gone in expiry.buckets.values():
        for tier, count in gone.items():
            tiers[tier] = tiers.get(tier, 0) + count
    audit.record(
        "metrics.expire",
        actor="system",
        detail={
            "buckets": tiers,
            "clusters": len(expiry.buckets),
            "series": expiry.series,
            "erased": [str(cluster) for cluster in expiry.erased],
        },
    )


def _default() -> Retention:
    """Return the default class; the model's own defaults if somebody deleted it."""
    return _retention(RetentionClass.objects.filter(is_default=True).first() or RetentionClass())


def _retention(chosen: RetentionClass) -> Retention:
    days = {"1m": chosen.days_1m, "10m": chosen.days_10m, "1h": chosen.days_1h}
    return Retention(chosen.name, {tier: days[tier] * DAY for tier in TIERS})
