"""What the InfluxDB store keeps in Django's database: everything but the points.

Positions, ledger windows and last values change in one transaction, after InfluxDB has confirmed
the points of a batch. After a crash between the two the next pull writes the same points again.
"""

from __future__ import annotations

from django.db import models


class MetricCluster(models.Model):
    """One cluster that the store knows; not a foreign key, because it outlives the cluster's row.

    ``writer`` and ``writer_until`` (Unix time) let one writer at a time read, compare and write a
    cluster's points. ``generation`` grows with every change: what a process has cached of the
    cluster's series is valid while it stays the same. ``written`` lists the ranges of the last
    changes that were minutes: (generation, first minute, last minute).
    """

    cluster = models.UUIDField(unique=True)
    erasing = models.BooleanField(default=False)
    writer = models.CharField(max_length=32, blank=True, default="")
    writer_until = models.FloatField(default=0)
    generation = models.BigIntegerField(default=0)
    written = models.JSONField(default=list)
    new_day = models.IntegerField(default=0)
    new_count = models.IntegerField(default=0)

    def __str__(self) -> str:
        return str(self.cluster)


class MetricPlace(models.Model):
    """The bucket that holds a cluster's rows of one kind and tier.

    ``kept_seconds`` names the bucket that is written to (0: forever). While ``moving``, rows are
    also in the bucket of ``previous_seconds``. Rows before ``expired`` are no longer shown.
    """

    cluster = models.ForeignKey(MetricCluster, on_delete=models.CASCADE, related_name="places")
    kind = models.CharField(max_length=10)
    tier = models.CharField(max_length=3)
    kept_seconds = models.BigIntegerField()
    moving = models.BooleanField(default=False)
    previous_seconds = models.BigIntegerField(default=0)
    moved_until = models.BigIntegerField(default=0)
    expired = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "kind", "tier"], name="one_metric_place")
        ]

    def __str__(self) -> str:
        return f"{self.kind}/{self.tier} of {self.cluster_id}"


class MetricSeries(models.Model):
    """A series and its newest minute. Names are as :func:`metrics.stores.influxdb.series.text`.

    ``last_n`` is how many samples that minute has, -1 if only wider buckets are known; ``last_ts``
    is NULL if not even those are. ``numbers`` is a list in the order of the catalogue.
    """

    cluster = models.ForeignKey(MetricCluster, on_delete=models.CASCADE, related_name="series")
    kind = models.CharField(max_length=10)
    ns = models.TextField()
    name = models.TextField()
    node = models.TextField(default="")
    attrs = models.JSONField(default=dict)
    first_ts = models.BigIntegerField()
    last_ts = models.BigIntegerField(null=True)
    last_n = models.BigIntegerField(default=-1)
    numbers = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "kind", "ns", "name"], name="one_metric_series"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.ns}/{self.name}"


class MetricPosition(models.Model):
    """How far a stream has been pulled."""

    cluster = models.ForeignKey(MetricCluster, on_delete=models.CASCADE, related_name="positions")
    stream = models.CharField(max_length=20)
    watermark = models.BigIntegerField(null=True)
    head = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "stream"], name="one_metric_position")
        ]

    def __str__(self) -> str:
        return f"{self.stream} of {self.cluster_id}"


class MetricWindow(models.Model):
    """One window of the gap ledger; see :class:`metrics.series.windows.Window`."""

    cluster = models.ForeignKey(MetricCluster, on_delete=models.CASCADE, related_name="windows")
    stream = models.CharField(max_length=20)
    start = models.BigIntegerField()
    end = models.BigIntegerField()
    state = models.CharField(max_length=10)
    got = models.IntegerField()
    expected = models.IntegerField()
    attempts = models.IntegerField()
    reason = models.CharField(max_length=30)
    detail = models.TextField()
    filled_at = models.BigIntegerField(null=True)
    resolution = models.IntegerField(default=60)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "stream", "start"], name="one_metric_window")
        ]
        indexes = [
            models.Index(fields=["cluster", "stream", "end"], name="metric_window_end"),
            models.Index(
                fields=["cluster", "stream", "end"],
                name="metric_window_open",
                condition=models.Q(state="gap"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} from {self.start}"
