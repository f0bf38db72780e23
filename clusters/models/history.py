"""Which states and findings there were when."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from clusters.models.clusters import Cluster


class ClusterEvent(models.Model):
    """A span of a cluster's history: its state, or one finding, at one level, from then to then.

    ``..._at`` is by evidence (:mod:`clusters.health`), ``..._known_at`` is when it was recorded
    here and never changes. :mod:`clusters.health_history` writes it. Rows of one key never overlap.
    """

    class Ending(models.TextChoices):
        """What is known of its end."""

        OPEN = "", "still so"
        OVER = "over", "over"
        CHANGED = "changed", "went on at another level"
        NOT_KNOWN = "unknown", "not known since"

    id = models.BigAutoField(primary_key=True)
    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="events", db_index=False
    )
    key = models.CharField(max_length=500)  # "state", or a finding's: "node:n3", "filesystem:n3:/"
    level = models.CharField(max_length=10)  # a state, or a finding's level
    text = models.CharField(max_length=500, blank=True, default="")  # the newest while it lasts
    began_at = models.DateTimeField()
    began_at_least = models.BooleanField(default=False)  # it may have begun earlier
    began_known_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_known_at = models.DateTimeField(null=True)
    ending = models.CharField(max_length=10, blank=True, default="", choices=Ending)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["cluster", "ended_at"], name="event_in_a_time"),
            models.Index(fields=["cluster", "key", "ended_at"], name="event_of_a_key"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cluster", "key"],
                condition=models.Q(ended_at=None),
                name="one_open_event_of_a_key",
            )
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.level} of {self.cluster_id}"
