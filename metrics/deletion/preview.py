"""An estimate of what a change of retention would delete."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from clusters import legal_holds
from clusters.history import ended_between
from clusters.models import Cluster, Customer
from metrics.models import ClusterRetention, CustomerRetention, RetentionClass
from metrics.retention.grace import GRACE_SECONDS, Shortening, advance, shortenings
from metrics.retention.in_force import class_of, stored_limits
from metrics.retention.rules import Limits, bound, complete, every_limit
from metrics.series.catalog import LimitName
from metrics.series.windows import utc_datetime
from metrics.stores import get_store
from metrics.stores.copier import StoredSeries
from metrics.stores.estimate import amount

COUNTING_SECONDS = 4.0
"""How long a preview may count rows, in seconds; the rest is left out, and the preview shows it."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a change deletes of one kind and tier, or of the history, over all clusters."""

    kind: LimitName
    tier: str
    days_before: int
    """The longest limit of the clusters."""
    days: int
    rows: int = 0
    """Estimated number of buckets (:mod:`metrics.stores.estimate`)."""
    oldest: int | None = None
    """Start of the oldest deleted bucket in Unix seconds; None if there is none."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a change of retention."""

    losses: tuple[Loss, ...]
    clusters: int
    """How many clusters it affects."""
    held: int
    """How many of them lose nothing because of a legal hold."""
    counted: int
    """How many clusters' rows were counted before the time limit."""
    due_at: int | None
    """When the deletion begins, in Unix seconds; None if nothing gets shorter."""

    @property
    def rows(self) -> int:
        """Return how many buckets will be deleted, as far as they were counted."""
        return sum(loss.rows for loss in self.losses)


def effect_of_change(
    row: RetentionClass,
    limits: Limits | None = None,
    *,
    is_default: bool = False,
    now: int | None = None,
) -> Effect:
    """Return what a change of a class would delete: of its limits, its being default, or both."""
    wanted = complete(row.limits) if limits is None else complete(limits, row.limits)
    touched = _having(row)
    if row.is_default or is_default:
        touched = touched | _without_class()
    return _effect(touched.values_list("pk", flat=True), wanted, _clock(now))


def effect_of_assigning(
    customer: Customer, chosen: RetentionClass | None, now: int | None = None
) -> Effect:
    """Return what assigning a class (None: the default) to a customer would delete."""
    limits = complete((class_of(None) if chosen is None else chosen).limits)
    ids = Cluster.objects.filter(customer=customer).values_list("pk", flat=True)
    return _effect(ids, limits, _clock(now))


def _having(row: RetentionClass) -> Any:
    users = CustomerRetention.objects.filter(retention_class=row).values("customer_id")
    return Cluster.objects.filter(customer_id__in=users)


def _without_class() -> Any:
    having = CustomerRetention.objects.values("customer_id")
    return Cluster.objects.exclude(customer_id__in=having)


def _effect(ids: Iterable[UUID], wanted: Limits, now: int) -> Effect:
    touched = sorted(ids)
    held = legal_holds.held_of(touched)
    rows = ClusterRetention.objects.in_bulk(touched)
    losses: dict[tuple[LimitName, str], Loss] = {}
    give_up_at = time.monotonic() + COUNTING_SECONDS
    counted = 0
    for pk in touched:
        # A cluster of which nothing was deleted yet has its class's limits.
        effective = stored_limits(rows.get(pk)) or advance(None, _wanted_now(pk), now)
        shorter = shortenings(effective.limits, wanted)
        series: list[StoredSeries] = []
        if time.monotonic() < give_up_at:
            counted += 1
            series = get_store().series(pk) if shorter and pk not in held else []
        for one in shorter:
            cell = (one.kind, one.tier)
            found = _amount(pk, one, series, now + GRACE_SECONDS) if pk not in held else (0, None)
            losses[cell] = _more(losses.get(cell), one, *found)
    ordered = tuple(losses[cell] for cell in every_limit() if cell in losses)
    due = now + GRACE_SECONDS if ordered else None
    return Effect(ordered, len(touched), len(held), counted, due)


def _amount(
    cluster: UUID, one: Shortening, series: Iterable[StoredSeries], due: int
) -> tuple[int, int | None]:
    """Return how many rows of a cluster would otherwise be kept, and the start of the oldest."""
    start, end = bound(due, one.before_days), bound(due, one.days)
    if one.kind == "history":
        return ended_between(cluster, utc_datetime(start), utc_datetime(end))
    return amount(series, one.kind, one.tier, start, end)


def _more(loss: Loss | None, one: Shortening, rows: int, oldest: int | None) -> Loss:
    """Return a loss increased by one more cluster."""
    if loss is None:
        return Loss(one.kind, one.tier, one.before_days, one.days, rows, oldest)
    known = [moment for moment in (loss.oldest, oldest) if moment is not None]
    return Loss(
        one.kind,
        one.tier,
        max(loss.days_before, one.before_days),
        one.days,
        loss.rows + rows,
        min(known, default=None),
    )


def _wanted_now(pk: UUID) -> Limits:
    cluster = Cluster.objects.filter(pk=pk).values_list("customer_id", flat=True).first()
    return complete(class_of(cluster).limits)


def _clock(now: int | None) -> int:
    return int(time.time()) if now is None else now
