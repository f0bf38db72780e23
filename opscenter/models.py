"""The one row that proves that the database takes writes."""

from __future__ import annotations

from django.db import models


class WriteProof(models.Model):
    """When the worker last wrote this row; see :mod:`opscenter.monitoring.write_checks`."""

    at = models.FloatField()  # Unix seconds

    def __str__(self) -> str:
        return f"written at {self.at}"
