"""How long a cluster's data is kept: its customer's class, and which limits are in force."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from clusters.models import Cluster
from metrics.models import ClusterRetention, CustomerRetention, RetentionClass
from metrics.retention.grace import EffectiveLimits, advance, reach_seconds
from metrics.retention.rules import Limits, complete
from metrics.series.catalog import KINDS, TIERS, Kind

_COLUMNS = ["limits", "wanted", "shorter_since"]


@dataclass(frozen=True, slots=True)
class Retention:
    """The retention of one cluster at one moment."""

    name: str
    """The class's name."""
    effective: EffectiveLimits
    now: int
    """Unix time in seconds."""

    def reach(self, kind: Kind) -> Mapping[str, int]:
        """Return how far back each tier of a kind goes: tier name -> seconds before now."""
        return reach_seconds(self.effective, kind, self.now)

    @property
    def seconds(self) -> Mapping[str, int]:
        """Return the longest of :meth:`reach` over all kinds."""
        every = [self.reach(kind) for kind in KINDS]
        return {tier: max(one[tier] for one in every) for tier in TIERS}

    @property
    def limits(self) -> Limits:
        """Return the limits that deletion applies, kind -> tier -> days."""
        return self.effective.limits


def retention_of(cluster: Cluster, now: int | None = None) -> Retention:
    """Return the retention of a cluster: its customer's class, else the default. 2-3 queries.

    Args:
        cluster: the cluster.
        now: current Unix time in seconds; None reads the clock.
    """
    chosen = class_of(cluster.customer_id)
    now = int(time.time()) if now is None else now
    row = ClusterRetention.objects.filter(pk=cluster.pk).first()
    wanted = complete(chosen.limits)
    # This shows what deletion would apply now; only :func:`refresh_in_force` stores the start of a
    # grace period.
    return Retention(chosen.name, advance(stored_limits(row), wanted, now), now)


def retentions_of(clusters: Iterable[Cluster], now: int) -> dict[UUID, Retention]:
    """Return the retention of many clusters, by cluster; three queries.

    Args:
        clusters: the clusters.
        now: current Unix time in seconds.
    """
    customers = {cluster.pk: cluster.customer_id for cluster in clusters}
    default = default_class()
    by_customer = {
        row.customer_id: row.retention_class
        for row in CustomerRetention.objects.select_related("retention_class")
    }
    rows = ClusterRetention.objects.in_bulk(list(customers))
    found = {}
    for pk, customer in customers.items():
        chosen = by_customer.get(customer, default) if customer else default
        effective = advance(stored_limits(rows.get(pk)), complete(chosen.limits), now)
        found[pk] = Retention(chosen.name, effective, now)
    return found


def class_of(customer_id: UUID | None) -> RetentionClass:
    """Return a customer's class, the default one if it has none or is None. 1-2 queries."""
    if customer_id is not None:
        chosen = (
            CustomerRetention.objects.filter(customer_id=customer_id)
            .select_related("retention_class")
            .first()
        )
        if chosen is not None:
            return chosen.retention_class
    return default_class()


def default_class() -> RetentionClass:
    """Return the default class; an unsaved one with the usual limits if there is none."""
    return RetentionClass.objects.filter(is_default=True).first() or RetentionClass(name="Standard")


def wanted_limits() -> dict[UUID, Limits]:
    """Return the limits of every cluster's class, by cluster. Three queries."""
    default = complete(default_class().limits)
    by_customer = {
        row.customer_id: complete(row.retention_class.limits)
        for row in CustomerRetention.objects.select_related("retention_class")
    }
    customers = Cluster.objects.values_list("pk", "customer_id")
    return {
        pk: by_customer.get(customer, default) if customer else default
        for pk, customer in customers
    }


def refresh_in_force(now: int, only: Iterable[UUID] | None = None) -> dict[UUID, ClusterRetention]:
    """Update the limits in force of all clusters, or of ``only`` some; return their rows.

    Runs before every deletion and after every change of a class, so that a grace period begins when
    the change is made. Rows of clusters that are no longer registered are left as they are.
    """
    wanted = wanted_limits()
    ids = wanted.keys() if only is None else wanted.keys() & set(only)
    rows: dict[UUID, ClusterRetention] = {}
    with transaction.atomic():
        found = {row.pk: row for row in ClusterRetention.objects.select_for_update()}
        fresh, changed = [], []
        for pk in ids:
            row = found.get(pk)
            effective = advance(stored_limits(row), wanted[pk], now)
            if row is None:
                row = ClusterRetention(cluster_id=pk)
                fresh.append(row)
            elif effective != stored_limits(row):
                changed.append(row)
            row.limits, row.wanted, row.shorter_since = _plain(effective)
            rows[pk] = row
        ClusterRetention.objects.bulk_create(fresh, ignore_conflicts=True)
        ClusterRetention.objects.bulk_update(changed, _COLUMNS, batch_size=500)
    return rows


def stored_limits(row: ClusterRetention | None) -> EffectiveLimits | None:
    """Return a row's limits; None for no row."""
    if row is None:
        return None
    gone = {kind: dict(tiers) for kind, tiers in row.gone.items()} or None
    return EffectiveLimits(complete(row.limits), complete(row.wanted), row.shorter_since, gone)


def _plain(
    effective: EffectiveLimits,
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]], int | None]:
    limits = {str(kind): dict(tiers) for kind, tiers in effective.limits.items()}
    wanted = {str(kind): dict(tiers) for kind, tiers in effective.wanted.items()}
    return limits, wanted, effective.shorter_since
