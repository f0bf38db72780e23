"""The nodes that each cluster has or had."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models

from clusters.models.clusters import Cluster


class ClusterNode(models.Model):
    """A node that a cluster has or had: the inventory that missing nodes are counted by.

    A node is *removed* when a list of what should be there (Kubernetes' own, a host's agent) lacks
    it. One that only sends nothing any more is *missing* until somebody dismisses it or the others
    have gone on for a day without it (:mod:`clusters.node_inventory`).
    """

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="nodes")
    name = models.CharField(max_length=253)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()  # end of its newest minute, by our clock
    absent_since = models.DateTimeField(null=True)  # end of the first newest minute without it
    listed_by = models.CharField(max_length=30, blank=True, default="")  # kind of source
    says_ready = models.BooleanField(default=False)  # whether it ever said if it is ready
    removed_at = models.DateTimeField(null=True)
    dismissed_at = models.DateTimeField(null=True)
    dismissed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "name"], name="node_once_in_a_cluster")
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.cluster_id}"
