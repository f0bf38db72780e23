"""What agents sign in with, and what gives the right to a new key."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from clusters.models.clusters import Cluster


class ClusterKey(models.Model):
    """A public key that an agent may sign in with; the fingerprint decides which cluster it is."""

    class Status(models.TextChoices):
        """Whether the hub accepts the key."""

        ACTIVE = "active", "active"
        RETIRED = "retired", "replaced by a newer key"
        REVOKED = "revoked", "revoked"

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="keys")
    public_key = models.CharField(max_length=200)  # "ssh-ed25519 AAAA..."
    fingerprint = models.CharField(max_length=60, unique=True)  # "SHA256:..."
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.fingerprint


class JoinToken(models.Model):
    """A single-use right to register a key for one cluster. Only its SHA-256 is kept."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="join_tokens")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    used_from = models.CharField(max_length=60, blank=True, default="")

    def __str__(self) -> str:
        return f"join token of {self.cluster_id}"
