"""Writes about retention: classes, which customer has which, and what a change would delete.

Callers have checked the right (:func:`clusters.access.require_keeper`) before. Every change writes
its audit line, and starts the grace of what became shorter (:mod:`metrics.retention.rules`) in the
same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from clusters import audit, holds
from clusters.audit import Actor
from clusters.models import Cluster, Customer
from metrics.models import ClusterRetention, CustomerRetention, RetentionClass
from metrics.retention.in_force import class_of, look, stored_force
from metrics.retention.rules import (
    GRACE_SECONDS,
    Limits,
    Shortening,
    advance,
    bound,
    cells,
    complete,
    problems,
    shortenings,
)
from metrics.series.catalog import Kind
from metrics.stores import get_store
from metrics.stores.base import StoredSeries
from metrics.stores.estimate import amount
from opscenter.core.errors import ConflictError, InvalidInputError
from opscenter.core.text import one_line

NAME_LENGTH = 60
COUNTING_SECONDS = 4.0
"""How long a preview may count rows; the rest is left out, and the preview says so."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a change deletes in one kind and tier, over all clusters that it touches."""

    kind: Kind
    tier: str
    days_before: int
    """The longest of the clusters."""
    days: int
    rows: int = 0
    """About how many buckets (:mod:`metrics.stores.estimate`)."""
    oldest: int | None = None
    """Start of the oldest bucket that goes, Unix time; None if none does."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change of retention does."""

    losses: tuple[Loss, ...]
    clusters: int
    """How many clusters it touches."""
    held: int
    """How many of them lose nothing because a legal hold stands."""
    counted: int
    """Over how many clusters the rows were counted, before the time for it was over."""
    due_at: int | None
    """When the deletion begins, Unix time; None if nothing gets shorter."""

    @property
    def rows(self) -> int:
        """Return how many buckets go, as far as they were counted."""
        return sum(loss.rows for loss in self.losses)


def checked_limits(limits: Mapping[Any, Any]) -> Limits:
    """Return limits that make sense.

    Raises:
        InvalidInputError: saying everything that does not.
    """
    wrong = problems(limits)
    if wrong:
        raise InvalidInputError("limits: " + "; ".join(wrong))
    return complete(limits)


def create_class(*, name: str, limits: Mapping[Any, Any], actor: Actor) -> RetentionClass:
    """Make a class, which nobody has yet.

    Raises:
        InvalidInputError: for a name or limits that make no sense.
        ConflictError: if the name is taken.
    """
    row = RetentionClass(name=_name(name), limits=checked_limits(limits))
    with transaction.atomic():
        _save(row)
        detail = {"name": row.name, "limits": row.limits}
        audit.record("retention_class.create", actor=actor, detail=detail)
    return row


def change_class(
    row: RetentionClass,
    *,
    actor: Actor,
    name: str | None = None,
    limits: Mapping[Any, Any] | None = None,
    is_default: bool | None = None,
    now: int | None = None,
) -> None:
    """Change a class; None leaves a part as it is. Only another default ends being the default.

    Raises:
        InvalidInputError: for a name or limits that make no sense, or an end of being default.
        ConflictError: if the name is taken.
    """
    before = {"name": row.name, "limits": complete(row.limits), "is_default": row.is_default}
    if is_default is False and row.is_default:
        raise InvalidInputError("is_default: make another class the default instead")
    row.name = row.name if name is None else _name(name)
    row.limits = complete(row.limits) if limits is None else checked_limits(limits)
    row.is_default = row.is_default or bool(is_default)
    after = {"name": row.name, "limits": row.limits, "is_default": row.is_default}
    if after == before:
        return
    with transaction.atomic():
        look(_clock(now))  # so that clusters never looked at have the grace as well
        if row.is_default:
            RetentionClass.objects.exclude(pk=row.pk).filter(is_default=True).update(
                is_default=False
            )
        _save(row)
        detail = {"before": before, "after": after}
        audit.record("retention_class.change", actor=actor, detail=detail)
        look(_clock(now))


def delete_class(row: RetentionClass, *, actor: Actor) -> None:
    """Delete a class that nobody has.

    Raises:
        ConflictError: if it is the default or a customer has it.
    """
    if row.is_default:
        raise ConflictError("name: the default class cannot be deleted; make another the default")
    users = CustomerRetention.objects.filter(retention_class=row).select_related("customer")
    names = [str(user.customer) for user in users[:3]]
    if names:
        raise ConflictError(f"name: {', '.join(names)} still has this class; choose another first")
    with transaction.atomic():
        detail = {"name": row.name, "limits": complete(row.limits)}
        audit.record("retention_class.delete", actor=actor, detail=detail)
        row.delete()


def assign(
    customer: Customer, chosen: RetentionClass | None, *, actor: Actor, now: int | None = None
) -> None:
    """Give a customer a class; None for the default one, whichever that is."""
    before = CustomerRetention.objects.filter(customer=customer).first()
    was = None if before is None else before.retention_class
    if was == chosen:
        return
    with transaction.atomic():
        look(_clock(now))  # so that clusters never looked at have the grace as well
        if chosen is None:
            CustomerRetention.objects.filter(customer=customer).delete()
        else:
            CustomerRetention.objects.update_or_create(
                customer=customer, defaults={"retention_class": chosen}
            )
        detail = {
            "customer": customer.name,
            "customer_id": str(customer.pk),
            "before": None if was is None else was.name,
            "after": None if chosen is None else chosen.name,
        }
        audit.record("retention.assign", actor=actor, detail=detail)
        look(_clock(now))


def effect_of_change(
    row: RetentionClass,
    limits: Limits | None = None,
    *,
    is_default: bool = False,
    now: int | None = None,
) -> Effect:
    """Return what a change of a class would delete: of limits, of being the default, or both."""
    wanted = complete(row.limits) if limits is None else limits
    touched = _having(row)
    if row.is_default or is_default:
        touched = touched | _without_class()
    return _effect(touched.values_list("pk", flat=True), wanted, _clock(now))


def effect_of_assigning(
    customer: Customer, chosen: RetentionClass | None, now: int | None = None
) -> Effect:
    """Return what giving a customer a class (None: the default) would delete."""
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
    held = holds.held_of(touched)
    rows = ClusterRetention.objects.in_bulk(touched)
    losses: dict[tuple[Kind, str], Loss] = {}
    give_up_at = time.monotonic() + COUNTING_SECONDS
    counted = 0
    for pk in touched:
        # A cluster that nothing was deleted of yet is looked at as its class stands.
        force = stored_force(rows.get(pk)) or advance(None, _wanted_now(pk), now)
        shorter = shortenings(force.limits, wanted)
        series: list[StoredSeries] = []
        if time.monotonic() < give_up_at:
            counted += 1
            series = get_store().series(pk) if shorter and pk not in held else []
        for one in shorter:
            place = (one.kind, one.tier)
            losses[place] = _more(losses.get(place), one, series, now + GRACE_SECONDS)
    ordered = tuple(losses[place] for place in cells() if place in losses)
    due = now + GRACE_SECONDS if ordered else None
    return Effect(ordered, len(touched), len(held), counted, due)


def _more(loss: Loss | None, one: Shortening, series: Iterable[StoredSeries], due: int) -> Loss:
    """Return a loss with what one more cluster loses by it: what would not have gone anyway."""
    start, end = bound(due, one.before_days), bound(due, one.days)
    rows, oldest = amount(series, one.kind, one.tier, start, end)
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


def _name(text: str) -> str:
    name = one_line(text, NAME_LENGTH + 1).strip()
    if not 0 < len(name) <= NAME_LENGTH:
        raise InvalidInputError(f"name: use 1 to {NAME_LENGTH} characters")
    return name


def _save(row: RetentionClass) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as exc:
        raise ConflictError(f"name: a class named {row.name} exists already") from exc


def _clock(now: int | None) -> int:
    return int(time.time()) if now is None else now
