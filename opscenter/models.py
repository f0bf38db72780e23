"""What the database says about this installation: two tables of one row each."""

from __future__ import annotations

import uuid

from django.db import models


class WriteProof(models.Model):
    """When the worker last wrote this row; see :mod:`opscenter.monitoring.write_checks`."""

    at = models.FloatField()  # Unix seconds

    def __str__(self) -> str:
        return f"written at {self.at}"


class Installation(models.Model):
    """Which installation this database belongs to; the metric store has the same id.

    ``keys`` are the names of the secret keys that something stored may be sealed with
    (:func:`opscenter.core.encryption.key_name`), the newest last.
    """

    identity = models.UUIDField(default=uuid.uuid4, editable=False)
    keys = models.JSONField(default=list)
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"installation {self.identity}"

    @classmethod
    def current(cls) -> Installation:
        """Return the one row, made on the first call."""
        return cls.objects.get_or_create(pk=1)[0]
