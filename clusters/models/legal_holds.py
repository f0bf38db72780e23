"""Legal holds: what may not be deleted (:mod:`clusters.legal_holds`)."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models

from clusters.models.clusters import Cluster
from clusters.models.customers import Customer


class LegalHold(models.Model):
    """While the row exists, nothing and nobody deletes a number of its customer or cluster.

    It goes when the hold is lifted; the audit log keeps who placed and lifted it. PROTECT keeps
    its customer and cluster from being deleted past :mod:`clusters.legal_holds`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.OneToOneField(
        Customer, null=True, on_delete=models.PROTECT, related_name="hold"
    )
    cluster = models.OneToOneField(
        Cluster, null=True, on_delete=models.PROTECT, related_name="hold"
    )
    reason = models.CharField(max_length=500)
    placed_by = models.CharField(max_length=150)  # as in the audit log
    placed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(customer=None) ^ models.Q(cluster=None),
                name="hold_on_a_customer_or_a_cluster",
            )
        ]

    def __str__(self) -> str:
        return f"legal hold on {self.customer or self.cluster}"
