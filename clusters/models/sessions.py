"""Tunnel sessions: those that live, and those that were."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models

from clusters.models.clusters import Cluster


class TunnelSession(models.Model):
    """One tunnel of a cluster, from sign-in to its end. Ended rows are history."""

    class State(models.TextChoices):
        """``ready`` carries pulls; ``draining`` was replaced by a newer session."""

        CONNECTING = "connecting", "signed in, no service yet"
        READY = "ready", "ready"
        SUSPECT = "suspect", "not answering"
        DRAINING = "draining", "replaced, finishing"
        GONE = "gone", "ended"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="sessions")
    hub = models.CharField(max_length=40)
    state = models.CharField(max_length=10, choices=State, default=State.CONNECTING)
    transport = models.CharField(max_length=10)  # "tcp" or "wss"
    remote_address = models.CharField(max_length=60)
    client_version = models.CharField(max_length=100, blank=True, default="")
    services = models.JSONField(default=list)  # names that the agent forwards
    connected_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    rtt_ms = models.FloatField(null=True)
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=200, blank=True, default="")
    # Short tunnels that followed and have no row any more: how many, and when the last one ended.
    folded = models.PositiveIntegerField(default=0)
    folded_until = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-connected_at"]
        indexes: ClassVar = [
            models.Index(fields=["cluster", "-connected_at"]),
            # The hub's start and its heartbeat look for open sessions only.
            models.Index(
                fields=["hub"], condition=models.Q(ended_at=None), name="tunnel_session_open"
            ),
        ]

    def __str__(self) -> str:
        return f"session {self.id} of {self.cluster_id}"
