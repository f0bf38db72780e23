"""Clusters: one remote cluster or plain machine each, behind one tunnel."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models

from clusters.models.customers import Customer
from opscenter.core.json_field import QuickJSONField

CLUSTER_NAME = RegexValidator(
    r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?\Z",
    "Use 1 to 63 lower-case letters, digits, '-' and '.'; start and end with a letter or digit.",
)


class Cluster(models.Model):
    """One remote cluster, or one plain machine, behind one tunnel.

    The id never changes and is the user name in the tunnel; the name is for people.
    """

    class Status(models.TextChoices):
        """Where the cluster is in its enrolment."""

        PENDING = "pending", "waiting for its agent"
        ACTIVE = "active", "enrolled"
        REVOKED = "revoked", "revoked"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, unique=True, validators=[CLUSTER_NAME])
    customer = models.ForeignKey(
        Customer, null=True, blank=True, on_delete=models.PROTECT, related_name="clusters"
    )
    labels = QuickJSONField(default=dict, blank=True)  # str -> str, set by operators
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    simulated = models.BooleanField(default=False)  # made by the fleet simulator: pages say so
    services = models.JSONField(default=list, blank=True)  # allowed services; [] means ["agent"]
    agent_version = models.CharField(max_length=40, blank=True, default="")
    kind = models.CharField(
        max_length=20, blank=True, default=""
    )  # "host", "kubernetes", "" unknown
    # One identity used from two places: when it was last seen, and what was seen.
    conflict_at = models.DateTimeField(null=True, blank=True)
    conflict_detail = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    enrolled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["name"]
        permissions: ClassVar = [("operate_cluster", "Can act on the cluster")]

    def __str__(self) -> str:
        return self.name

    @property
    def allowed_services(self) -> list[str]:
        """Return the names of the services that the hub accepts from this cluster."""
        return list(self.services) or ["agent"]
