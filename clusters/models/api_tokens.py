"""API tokens of users."""

from __future__ import annotations

from django.db import models
from knox.models import AbstractAuthToken


class ApiToken(AbstractAuthToken):  # type: ignore[misc]
    """A named API token; only its digest is kept."""

    name = models.CharField(max_length=100)
    read_only = models.BooleanField(default=False)
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"
