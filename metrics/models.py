"""What the centre keeps in Django's database about pulls and retention.

The numbers themselves, their watermark and the gap ledger live together in the metric store.
"""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models

from clusters.models import Cluster, Customer


class PullSchedule(models.Model):
    """When a cluster's stream is pulled next. One row per cluster and stream.

    ``failures`` drives the back-off; ``last_attempt_at`` lets a gap's reason tell a tunnel that
    was down from a centre that did not ask. ``dispatched_at`` is when a pull was last put into the
    queue: a tunnel that came up after it makes the stream due at once.
    """

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    stream = models.CharField(max_length=20, default="agent")
    due_at = models.DateTimeField()
    dispatched_at = models.DateTimeField(null=True)
    last_attempt_at = models.DateTimeField(null=True)
    last_ok_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    error_code = models.CharField(max_length=30, blank=True, default="")
    duration_ms = models.FloatField(null=True)  # of the last pull, start to commit
    backfill_due_at = models.DateTimeField(null=True)  # NULL: no gap is open
    backfill_failures = models.PositiveIntegerField(default=0)  # runs in a row without progress

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "stream"], name="one_schedule_per_stream")
        ]
        indexes = [models.Index(fields=["due_at"])]

    def __str__(self) -> str:
        return f"{self.stream} of {self.cluster_id}"


class RetentionClass(models.Model):
    """How long each tier is kept, in days."""

    name = models.CharField(max_length=60, unique=True)
    days_1m = models.PositiveIntegerField(default=7, validators=[MinValueValidator(1)])
    days_10m = models.PositiveIntegerField(default=90, validators=[MinValueValidator(1)])
    days_1h = models.PositiveIntegerField(default=730, validators=[MinValueValidator(1)])
    is_default = models.BooleanField(default=False)

    class Meta:
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
    """The retention class of a customer; without a row the default class holds."""

    customer = models.OneToOneField(Customer, on_delete=models.CASCADE, related_name="+")
    retention_class = models.ForeignKey(RetentionClass, on_delete=models.PROTECT, related_name="+")

    def __str__(self) -> str:
        return f"{self.customer_id}: {self.retention_class}"
