"""Customers: the tenants, whose clusters they are."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models


class Customer(models.Model):
    """A tenant: whose clusters they are, and whose people may see them."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name
