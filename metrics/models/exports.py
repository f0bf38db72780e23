"""Exports of a customer's data."""

from __future__ import annotations

import uuid

from django.db import models

from clusters.models import Cluster, Customer


class Export(models.Model):
    """A file with one customer's or one cluster's data, being written or ready to download."""

    class State(models.TextChoices):
        """The export's progress."""

        WAITING = "waiting", "waiting"
        RUNNING = "running", "running"
        READY = "ready", "ready"
        FAILED = "failed", "failed"

    class Format(models.TextChoices):
        """The format of the tables inside the file."""

        PARQUET = "parquet", "Parquet"
        CSV = "csv", "CSV"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.ForeignKey(Customer, null=True, on_delete=models.CASCADE, related_name="+")
    cluster = models.ForeignKey(Cluster, null=True, on_delete=models.CASCADE, related_name="+")
    format = models.CharField(max_length=10, choices=Format)
    start = models.BigIntegerField()  # Unix time, included
    end = models.BigIntegerField()  # Unix time, excluded
    requested_by = models.CharField(max_length=150)
    # Whether somebody who sees all customers asked: their files and a customer's are kept apart.
    requested_by_staff = models.BooleanField(default=True)
    requested_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    seen_at = models.DateTimeField(null=True)  # refreshed while it is worked on
    done_ratio = models.FloatField(default=0)  # 0..1, of the work
    step = models.CharField(max_length=200, blank=True, default="")  # what is written now
    rows = models.BigIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    problem = models.CharField(max_length=500, blank=True, default="")
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-requested_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(customer=None) ^ models.Q(cluster=None),
                name="export_of_a_customer_or_a_cluster",
            )
        ]

    def __str__(self) -> str:
        return f"{self.format} export of {self.customer or self.cluster}"
