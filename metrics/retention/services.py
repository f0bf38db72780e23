"""Changes of retention: classes, and which customer has which.

Callers check permission first (:func:`clusters.access.require_keeper`). Every change writes its
audit line, and starts the grace period of shorter limits (:mod:`metrics.retention.rules`), in the
same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from clusters import audit
from clusters.audit import Actor
from clusters.models import Customer
from metrics.models import CustomerRetention, RetentionClass
from metrics.retention.in_force import refresh_in_force
from metrics.retention.rules import (
    Limits,
    complete,
    problems,
)
from opscenter.core.errors import ConflictError, InvalidInputError
from opscenter.core.text import one_line

NAME_LENGTH = 60


def checked_limits(limits: Mapping[Any, Any], before: Mapping[Any, Any] | None = None) -> Limits:
    """Return limits, complete and checked; one without a history keeps that of ``before``.

    Raises:
        InvalidInputError: if any are invalid; its text lists all of them.
    """
    wrong = problems(limits)
    if wrong:
        raise InvalidInputError("limits: " + "; ".join(wrong))
    return complete(limits, before)


def create_class(*, name: str, limits: Mapping[Any, Any], actor: Actor) -> RetentionClass:
    """Create a class; no customer has it yet.

    Raises:
        InvalidInputError: if the name or the limits are invalid.
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
    """Change a class; None leaves a part as it is.

    A class stops being the default only when another one becomes it.

    Raises:
        InvalidInputError: if the name or the limits are invalid, or ``is_default`` is False for
            the default class.
        ConflictError: if the name is taken.
    """
    before = {"name": row.name, "limits": complete(row.limits), "is_default": row.is_default}
    if is_default is False and row.is_default:
        raise InvalidInputError("is_default: make another class the default instead")
    row.name = row.name if name is None else _name(name)
    row.limits = complete(row.limits) if limits is None else checked_limits(limits, row.limits)
    row.is_default = row.is_default or bool(is_default)
    after = {"name": row.name, "limits": row.limits, "is_default": row.is_default}
    if after == before:
        return
    with transaction.atomic():
        refresh_in_force(_clock(now))  # so that clusters never seen get the grace period too
        if row.is_default:
            RetentionClass.objects.exclude(pk=row.pk).filter(is_default=True).update(
                is_default=False
            )
        _save(row)
        detail = {"before": before, "after": after}
        audit.record("retention_class.change", actor=actor, detail=detail)
        refresh_in_force(_clock(now))


def delete_class(row: RetentionClass, *, actor: Actor) -> None:
    """Delete a class that no customer has.

    Raises:
        ConflictError: if it is the default or a customer has it.
    """
    if row.is_default:
        raise ConflictError("name: the default class cannot be deleted; make another the default")
    users = CustomerRetention.objects.filter(retention_class=row).select_related("customer")
    names = [str(user.customer) for user in users[:3]]
    if names:
        raise ConflictError(f"name: {', '.join(names)} still uses this class; assign another")
    with transaction.atomic():
        detail = {"name": row.name, "limits": complete(row.limits)}
        audit.record("retention_class.delete", actor=actor, detail=detail)
        row.delete()


def assign(
    customer: Customer, chosen: RetentionClass | None, *, actor: Actor, now: int | None = None
) -> None:
    """Give a customer a class; None for whichever is the default."""
    before = CustomerRetention.objects.filter(customer=customer).first()
    former = None if before is None else before.retention_class
    if former == chosen:
        return
    with transaction.atomic():
        refresh_in_force(_clock(now))  # so that clusters never seen get the grace period too
        if chosen is None:
            CustomerRetention.objects.filter(customer=customer).delete()
        else:
            CustomerRetention.objects.update_or_create(
                customer=customer, defaults={"retention_class": chosen}
            )
        detail = {
            "customer": customer.name,
            "customer_id": str(customer.pk),
            "before": None if former is None else former.name,
            "after": None if chosen is None else chosen.name,
        }
        audit.record("retention.assign", actor=actor, detail=detail)
        refresh_in_force(_clock(now))


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
