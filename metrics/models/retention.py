"""How long data is kept, by class, customer and cluster; erasures."""

from __future__ import annotations

import uuid

from django.db import models

from clusters.models import Customer
from metrics.series.catalog import default_limits


class RetentionClass(models.Model):
    """How long each kind and tier is kept; :mod:`metrics.retention.rules` has the rules.

    ``limits`` is kind -> tier -> days. A change takes effect on the data through
    :class:`ClusterRetention`.
    """

    name = models.CharField(max_length=60, unique=True)
    limits = models.JSONField(default=default_limits)
    is_default = models.BooleanField(default=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"],
                condition=models.Q(is_default=True),
                name="one_default_retention_class",
            )
        ]

    def __str__(self) -> str:
        return self.name


class CustomerRetention(models.Model):
    """The retention class of a customer; without a row the default class applies."""

    customer = models.OneToOneField(Customer, on_delete=models.CASCADE, related_name="+")
    retention_class = models.ForeignKey(RetentionClass, on_delete=models.PROTECT, related_name="+")

    def __str__(self) -> str:
        return f"{self.customer_id}: {self.retention_class}"


class ClusterRetention(models.Model):
    """A cluster's :class:`~metrics.retention.grace.EffectiveLimits`, and its current deletion.

    No foreign key: the row says up to when data was deleted for as long as there is any.
    """

    cluster_id = models.UUIDField(primary_key=True)
    limits = models.JSONField()
    wanted = models.JSONField()
    shorter_since = models.BigIntegerField(null=True)  # Unix time
    gone = models.JSONField(default=dict)  # kind -> tier -> Unix time
    sweep = models.JSONField(default=dict)  # the deletion in progress; {} for none
    swept_day = models.IntegerField(default=0)  # of the last complete deletion: Unix time / 86,400

    def __str__(self) -> str:
        return f"retention of {self.cluster_id}"


class Erasure(models.Model):
    """The erasure of one customer's data: what is left to do, and who requested it.

    No foreign keys: the customer and its clusters are deleted, this row stays as the record.
    """

    class State(models.TextChoices):
        """The erasure's progress."""

        RUNNING = "running", "running"
        DONE = "done", "done"
        HELD = "held", "stopped by a legal hold"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer_id = models.UUIDField()
    customer_name = models.CharField(max_length=100)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    clusters = models.JSONField(default=list)  # ids of all clusters, in the order of work
    erased = models.JSONField(default=list)  # ids of those whose data is gone
    problem = models.CharField(max_length=500, blank=True, default="")
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-requested_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["customer_id"],
                condition=~models.Q(state="done"),
                name="one_open_erasure_per_customer",
            )
        ]

    def __str__(self) -> str:
        return f"erasure of {self.customer_name}"

    @property
    def total(self) -> int:
        """Return how many clusters there were, as far as known."""
        return len(self.clusters)

    @property
    def done(self) -> int:
        """Return how many clusters are fully erased."""
        return len(self.erased)
