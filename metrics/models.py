"""What the centre keeps in Django's database about pulls and retention.

The numbers themselves, their watermark and the gap ledger live together in the metric store.
"""

from __future__ import annotations

import uuid

from django.db import models

from clusters.models import Cluster, Customer
from metrics.series.catalog import default_limits
from metrics.stores.influxdb_models import (
    MetricCluster,
    MetricPlace,
    MetricPosition,
    MetricSeries,
    MetricWindow,
)

__all__ = [
    "ClusterRetention", "CustomerRetention", "Erasure", "Export", "MetricCluster", "MetricPlace",
    "MetricPosition", "MetricSeries", "MetricSource", "MetricWindow", "PullSchedule",
    "RetentionClass",
]  # fmt: skip


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
    # From which minute on the source in use answers; what another one stored before stays.
    source_since = models.BigIntegerField(default=0)
    # Rows of live pulls whose time was far off: how many ever, and the last time.
    rejected_rows = models.BigIntegerField(default=0)
    rejected_at = models.DateTimeField(null=True)
    rejected_detail = models.CharField(max_length=300, blank=True, default="")
    notes = models.JSONField(default=list)  # what is odd in the last answer, short lines
    progress = models.JSONField(default=dict)  # of filling gaps: metrics.progress
    recheck_due_at = models.DateTimeField(null=True)  # next look for late data; NULL: never
    rechecked = models.JSONField(default=dict)  # delay in seconds -> end of what was looked at

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "stream"], name="one_schedule_per_stream")
        ]
        indexes = [models.Index(fields=["due_at"])]

    def __str__(self) -> str:
        return f"{self.stream} of {self.cluster_id}"


class MetricSource(models.Model):
    """What a cluster's metrics are pulled from besides, or instead of, our own agent.

    Without a row of the role ``main`` the agent's own collectors answer. Changes go through
    :mod:`metrics.source_config`. The secrets are sealed and never shown again.
    """

    class Role(models.TextChoices):
        """``main`` answers for everything; ``etcd`` adds etcd's figures to the nodes."""

        MAIN = "main", "main source"
        ETCD = "etcd", "etcd"

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=10, choices=Role, default=Role.MAIN)
    kind = models.CharField(max_length=20)  # a key of metrics.source_config.KINDS
    service = models.CharField(max_length=40)  # of the tunnel
    scheme = models.CharField(max_length=5, default="http")
    settings = models.JSONField(default=dict)  # database, org, bucket, path_prefix, ...
    sealed = models.TextField(blank=True, default="")  # JSON of secrets, see core.sealing
    secret_names = models.JSONField(default=list)  # which secrets are set
    state = models.JSONField(default=dict)  # what the adapter keeps between pulls
    probe = models.JSONField(null=True)  # what the last test found; None before the first
    probed_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, blank=True, default="")  # of the last use, role etcd
    error_code = models.CharField(max_length=30, blank=True, default="")
    error_at = models.DateTimeField(null=True)
    added_by = models.CharField(max_length=150)
    added_at = models.DateTimeField()
    changed_by = models.CharField(max_length=150)
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "role"], name="one_source_per_role")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.cluster_id}"


class RetentionClass(models.Model):
    """How long each kind and tier is kept; :mod:`metrics.limits` has the rules.

    ``limits`` is kind -> tier -> days. What a change of it means for the data waits in
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
    """The retention class of a customer; without a row the default class holds."""

    customer = models.OneToOneField(Customer, on_delete=models.CASCADE, related_name="+")
    retention_class = models.ForeignKey(RetentionClass, on_delete=models.PROTECT, related_name="+")

    def __str__(self) -> str:
        return f"{self.customer_id}: {self.retention_class}"


class ClusterRetention(models.Model):
    """What retention does with one cluster's data now: :class:`metrics.limits.Force`, stored.

    No foreign key: the row says how far data was deleted for as long as there is some.
    """

    cluster_id = models.UUIDField(primary_key=True)
    limits = models.JSONField()
    wanted = models.JSONField()
    shorter_since = models.BigIntegerField(null=True)  # Unix time
    gone = models.JSONField(default=dict)  # kind -> tier -> Unix time
    sweep = models.JSONField(default=dict)  # the deletion that is under way; {} for none
    swept_day = models.IntegerField(default=0)  # of the last whole deletion: Unix time / 86,400

    def __str__(self) -> str:
        return f"retention of {self.cluster_id}"


class Erasure(models.Model):
    """One customer's data being erased, or erased: what is left to do, and who wanted it.

    No foreign keys: the customer and its clusters go, this row stays and says so.
    """

    class State(models.TextChoices):
        """How far it is."""

        RUNNING = "running", "running"
        DONE = "done", "done"
        HELD = "held", "stopped by a legal hold"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer_id = models.UUIDField()
    customer_name = models.CharField(max_length=100)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    clusters = models.JSONField(default=list)  # ids of all, in the order of work
    erased = models.JSONField(default=list)  # ids of those whose numbers are gone
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
        """Return how many clusters there were, as far as is known."""
        return len(self.clusters)

    @property
    def done(self) -> int:
        """Return of how many clusters everything is gone."""
        return len(self.erased)


class Export(models.Model):
    """A file with one customer's or one cluster's data, being made or ready to be fetched."""

    class State(models.TextChoices):
        """How far it is."""

        WAITING = "waiting", "waiting"
        RUNNING = "running", "running"
        READY = "ready", "ready"
        FAILED = "failed", "failed"

    class Format(models.TextChoices):
        """What the tables inside the file are."""

        PARQUET = "parquet", "Parquet"
        CSV = "csv", "CSV"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.ForeignKey(Customer, null=True, on_delete=models.CASCADE, related_name="+")
    cluster = models.ForeignKey(Cluster, null=True, on_delete=models.CASCADE, related_name="+")
    format = models.CharField(max_length=10, choices=Format)
    start = models.BigIntegerField()  # Unix time, included
    end = models.BigIntegerField()  # Unix time, excluded
    requested_by = models.CharField(max_length=150)
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
