"""Legal holds: while one is in force, no data of its customer or cluster expires or is erased.

Code that deletes numbers checks here first, and again between two steps of long work. A hold
on a customer covers all its clusters, including one that was deleted shortly before and whose
numbers still exist. Callers check the permission (:func:`clusters.access.require_manage_retention`)
first.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from clusters import audit
from clusters.audit import Actor, actor_name
from clusters.models import AuditEvent, Cluster, Customer, LegalHold
from opscenter.core import realtime
from opscenter.core.errors import ConflictError, InvalidInputError, OpsCenterError
from opscenter.core.text import one_line

REASON_LENGTH = 500


class LegalHoldError(OpsCenterError):
    """Something under a legal hold would be deleted."""

    code = "legal_hold"
    http_status = 409


def place(
    target: Customer | Cluster, *, reason: str, actor: Actor, now: datetime | None = None
) -> LegalHold:
    """Place a hold on a customer or a single cluster.

    Raises:
        InvalidInputError: without a reason, or with one of more than 500 characters.
        ConflictError: if there is one already.
    """
    text = one_line(reason, REASON_LENGTH + 1).strip()
    if not text:
        raise InvalidInputError("reason: give a reason, for whoever asks years from now")
    if len(text) > REASON_LENGTH:
        raise InvalidInputError(f"reason: use at most {REASON_LENGTH} characters")
    now = now or datetime.now(UTC)
    hold = LegalHold(reason=text, placed_by=actor_name(actor)[:150], placed_at=now)
    _set_target(hold, target)
    try:
        with transaction.atomic():
            _lock(target)
            hold.save(force_insert=True)
            _audit("hold.place", hold, actor, now)
    except IntegrityError as exc:
        raise ConflictError("reason: there is already a legal hold") from exc
    _publish(hold)
    return hold


def lift(hold: LegalHold, *, actor: Actor, now: datetime | None = None) -> None:
    """Lift a hold: the next expiry deletes what is older than its retention."""
    now = now or datetime.now(UTC)
    with transaction.atomic():
        _audit("hold.lift", hold, actor, now)
        hold.delete()
    _publish(hold)


def standing(cluster: Cluster) -> list[LegalHold]:
    """Return the holds on a cluster and on its customer, at most two. One query."""
    covers = Q(cluster_id=cluster.pk)
    if cluster.customer_id is not None:
        covers |= Q(customer_id=cluster.customer_id)
    rows = LegalHold.objects.select_related("customer", "cluster").filter(covers)
    return list(rows.order_by("placed_at"))


def standing_on(customer: Customer) -> list[LegalHold]:
    """Return the hold on a customer and those on its single clusters."""
    rows = LegalHold.objects.select_related("customer", "cluster").order_by("placed_at")
    return [*rows.filter(customer=customer), *rows.filter(cluster__customer=customer)]


def is_held(cluster_id: UUID) -> bool:
    """Return whether a hold covers a cluster, which may be deleted already. 1-3 queries."""
    return cluster_id in held_of([cluster_id])


def held_of(cluster_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of the clusters that a hold covers.

    For one that was deleted, the audit line of its deletion names its customer.
    """
    holds = list(LegalHold.objects.values_list("customer_id", "cluster_id"))
    if not holds:
        return set()
    customers = {customer for customer, _ in holds if customer is not None}
    wanted = set(cluster_ids)
    held = wanted & {cluster for _, cluster in holds if cluster is not None}
    rows = Cluster.objects.filter(customer_id__in=customers).values_list("pk", flat=True)
    held |= wanted & set(rows)
    deleted = AuditEvent.objects.filter(action="cluster.delete", ok=True)
    names = {str(customer) for customer in customers}
    for cluster, detail in deleted.values_list("cluster_id", "detail"):
        if cluster in wanted and detail.get("customer_id") in names:
            held.add(cluster)
    return held


def require_free(target: Customer | Cluster) -> None:
    """Check that nothing of a customer or cluster is under a hold; within a transaction, lock it.

    Raises:
        LegalHoldError: naming what is held and since when.
    """
    _lock(target)
    holds = standing(target) if isinstance(target, Cluster) else standing_on(target)
    if holds:
        hold = holds[0]
        what = f"the customer {hold.customer}" if hold.customer else f"the cluster {hold.cluster}"
        msg = (
            f"There has been a legal hold on {what} since {hold.placed_at:%Y-%m-%d %H:%M} UTC;"
            " nothing is deleted before an administrator lifts it."
        )
        raise LegalHoldError(msg)


def _set_target(hold: LegalHold, target: Customer | Cluster) -> None:
    if isinstance(target, Cluster):
        hold.cluster = target
    else:
        hold.customer = target


def _lock(target: Customer | Cluster) -> None:
    """Let nobody place a hold and delete at the same time (PostgreSQL; SQLite has one writer)."""
    if not transaction.get_connection().in_atomic_block:
        return
    customer = target.customer_id if isinstance(target, Cluster) else target.pk
    if customer is not None:
        list(Customer.objects.select_for_update().filter(pk=customer).values_list("pk"))
    if isinstance(target, Cluster):
        list(Cluster.objects.select_for_update().filter(pk=target.pk).values_list("pk"))


def _audit(action: str, hold: LegalHold, actor: Actor, now: datetime) -> None:
    detail = {"reason": hold.reason, "placed_by": hold.placed_by}
    if hold.customer is not None:
        detail |= {"customer": hold.customer.name, "customer_id": str(hold.customer.pk)}
    if hold.cluster is not None:
        detail["cluster"] = hold.cluster.name
    audit.record(action, actor=actor, cluster_id=hold.cluster_id, detail=detail, now=now)


def _publish(hold: LegalHold) -> None:
    """Tell open pages of the held clusters about the change."""
    held = Cluster.objects.filter(customer_id=hold.customer_id) if hold.customer_id else ()
    for cluster_id in [hold.cluster_id] if hold.cluster_id else [c.pk for c in held]:
        realtime.publish_on_commit(cluster_id, "config")
