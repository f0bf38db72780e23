"""What is known about each cluster now."""

from __future__ import annotations

from django.db import models

from clusters.models.clusters import Cluster
from opscenter.core.json_field import QuickJSONField


class ClusterStatus(models.Model):
    """What is known about a cluster now: one narrow row, so that lists cost one query.

    The hub writes the tunnel's part, pulls write the rest. The health columns hold what was
    recorded last; :func:`clusters.health.judge` decides again on every read. Amounts are sums over
    nodes: millicores and bytes. NULL means not known, never 0. The numbers of the newest minute are
    those of :mod:`clusters.status_numbers`; a test compares the two.
    """

    cluster = models.OneToOneField(
        Cluster, primary_key=True, on_delete=models.CASCADE, related_name="current"
    )
    # Health, as last recorded.
    state = models.CharField(max_length=10, default="pending")
    since = models.DateTimeField(null=True)
    was = models.CharField(max_length=10, blank=True, default="")
    reason = models.CharField(max_length=500, blank=True, default="")
    findings = QuickJSONField(null=True)  # as of then, with their since; NULL for none
    # Tunnel, written by the hub. seen_at is refreshed while the session answers.
    tunnel_up = models.BooleanField(default=False)
    tunnel_since = models.DateTimeField(null=True)
    tunnel_seen_at = models.DateTimeField(null=True)
    tunnel_reason = models.CharField(max_length=200, blank=True, default="")
    tunnel_rtt_ms = models.FloatField(null=True)
    # Pulls.
    last_pull_at = models.DateTimeField(null=True)
    last_pull_ok_at = models.DateTimeField(null=True)
    pull_error_code = models.CharField(max_length=30, blank=True, default="")
    pull_error = models.CharField(max_length=500, blank=True, default="")
    pull_failures = models.PositiveIntegerField(default=0)
    clock_skew_ms = models.IntegerField(null=True)
    # Why the source sees nothing of its cluster, as of its last answer.
    collector_error = models.CharField(max_length=500, blank=True, default="")
    # How long the source in use takes until a minute is complete; added to the limit of its age.
    settle_seconds = models.PositiveIntegerField(default=0)
    # Newest minute of data (its end), and its numbers.
    data_as_of = models.DateTimeField(null=True)
    nodes_ready = models.PositiveIntegerField(null=True)
    nodes_total = models.PositiveIntegerField(null=True)
    nodes_unknown = models.PositiveIntegerField(null=True)
    nodes_not_ready = QuickJSONField(default=list)  # names, at most 10
    pods = models.PositiveIntegerField(null=True)
    cpu_mc = models.BigIntegerField(null=True)
    cpu_cap_mc = models.BigIntegerField(null=True)
    mem_ws = models.BigIntegerField(null=True)
    mem_cap = models.BigIntegerField(null=True)
    cpu_share = models.FloatField(null=True)  # 0..1, of the nodes that measured both
    mem_share = models.FloatField(null=True)
    fs_worst_ratio = models.FloatField(null=True)  # 0..1, of the fullest filesystem
    fs_worst_name = models.CharField(max_length=300, blank=True, default="")  # "node /mount"
    inodes_worst_ratio = models.FloatField(null=True)
    inodes_worst_name = models.CharField(max_length=300, blank=True, default="")
    # What is off at single parts, as of that minute (clusters.conditions); NULL for nothing, which
    # costs a list of thousands of clusters less than an empty list.
    conditions = QuickJSONField(null=True)
    # Which nodes were seen in the minutes up to data_as_of, so that the inventory is only written
    # when that changes (clusters.node_inventory.Stock); NULL where it has to be looked at.
    stock = QuickJSONField(null=True)
    # The last hour for sparklines: lists of at most 60 CPU ratios in permille, null = no data,
    # ending at data_as_of.
    cpu_history = QuickJSONField(default=list)
    # How much of the day's history was written (clusters.health_history); {} for none yet.
    history_day = QuickJSONField(default=dict)

    def __str__(self) -> str:
        return f"status of {self.cluster_id}"
