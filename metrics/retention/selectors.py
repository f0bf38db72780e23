"""The customers with their retention, as pages and the API list them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count

from clusters.models import Cluster, Customer, LegalHold
from metrics.models import CustomerRetention, RetentionClass
from metrics.retention.in_force import default_class


@dataclass(frozen=True, slots=True)
class CustomerSummary:
    """One customer in a list."""

    id: UUID
    name: str
    clusters: int
    retention_class: RetentionClass
    """The customer's own class, or the default one."""
    own_class: bool
    legal_hold: bool
    """Whether the customer or one of its clusters has a hold."""


def customer_summaries(customers: Iterable[Customer]) -> list[CustomerSummary]:
    """Return customers with their retention, sorted by name. Five queries."""
    rows = sorted(customers, key=lambda customer: customer.name.casefold())
    chosen = {
        row.customer_id: row.retention_class
        for row in CustomerRetention.objects.select_related("retention_class")
    }
    default = default_class()
    counts = dict(
        Cluster.objects.exclude(customer=None).values_list("customer_id").annotate(Count("pk"))
    )
    held = set(LegalHold.objects.values_list("customer_id", flat=True))
    held |= set(LegalHold.objects.values_list("cluster__customer_id", flat=True))
    return [
        CustomerSummary(
            row.pk,
            row.name,
            counts.get(row.pk, 0),
            chosen.get(row.pk, default),
            row.pk in chosen,
            row.pk in held,
        )
        for row in rows
    ]
