"""The audit log (:mod:`clusters.audit`)."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models


class AuditEvent(models.Model):
    """One line of the append-only, hash-chained audit log (:mod:`clusters.audit` writes it)."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)  # user name, "agent <address>", "system"
    action = models.CharField(max_length=50)  # "cluster.create", "agent.enrol", "token.create"
    cluster_id = models.UUIDField(null=True)  # no foreign key: the log outlives the cluster
    ok = models.BooleanField(default=True)
    detail = models.JSONField(default=dict)
    previous = models.CharField(max_length=64)  # hash of the line before; "" for the first
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Append the line.

        Raises:
            TypeError: if it is stored already.
        """
        if not self._state.adding:
            raise TypeError("the audit log is append-only")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:  # noqa: ARG002
        """Refuse.

        Raises:
            TypeError: always.
        """
        raise TypeError("the audit log is append-only")
