"""When each cluster is pulled, and from which source."""

from __future__ import annotations

from django.db import models

from clusters.models import Cluster


class PullSchedule(models.Model):
    """When a cluster's stream is pulled next. One row per cluster and stream.

    ``failures`` drives the back-off; with ``last_attempt_at`` a gap's reason distinguishes a tunnel
    that was down from a centre that did not pull. ``dispatched_at`` is when a pull was last queued:
    a tunnel that came up after it makes the stream due at once.
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
    # The first minute that the current source answers for; what another one stored before stays.
    source_since = models.BigIntegerField(default=0)
    # Rows of live pulls whose time was far off: how many ever, and when last.
    rejected_rows = models.BigIntegerField(default=0)
    rejected_at = models.DateTimeField(null=True)
    rejected_detail = models.CharField(max_length=300, blank=True, default="")
    refused_values = models.JSONField(default=dict)  # metrics.connections.refused_values
    notes = models.JSONField(default=list)  # oddities of the last answer, short lines
    progress = models.JSONField(default=dict)  # of filling gaps: metrics.pulling.progress
    recheck_due_at = models.DateTimeField(null=True)  # next check for late data; NULL: never
    rechecked = models.JSONField(default=dict)  # delay in seconds -> end of what was checked

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "stream"], name="one_schedule_per_stream")
        ]
        indexes = [models.Index(fields=["due_at"])]

    def __str__(self) -> str:
        return f"{self.stream} of {self.cluster_id}"


class MetricSource(models.Model):
    """A source of a cluster's metrics, in addition to our own agent or instead of it.

    Without a row of the role ``main`` the agent's own collectors answer. Changes go through
    :mod:`metrics.connections.config`. The secrets are sealed and never shown again.
    """

    class Role(models.TextChoices):
        """``main`` answers for everything; ``etcd`` adds etcd's figures to the nodes."""

        MAIN = "main", "main source"
        ETCD = "etcd", "etcd"

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=10, choices=Role, default=Role.MAIN)
    kind = models.CharField(max_length=20)  # a key of metrics.sources.kinds.KINDS
    service = models.CharField(max_length=40)  # of the tunnel
    scheme = models.CharField(max_length=5, default="http")
    settings = models.JSONField(default=dict)  # database, org, bucket, path_prefix, ...
    sealed = models.TextField(blank=True, default="")  # JSON of secrets, see core.sealing
    secret_names = models.JSONField(default=list)  # which secrets are set
    state = models.JSONField(default=dict)  # what the adapter stores between pulls
    probe = models.JSONField(null=True)  # what the last test found; None before the first
    probed_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, blank=True, default="")  # of the last read, role etcd
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
