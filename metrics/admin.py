"""The admin of retention: how long numbers are kept, and the pulls' schedule to look at."""

from __future__ import annotations

from django.contrib import admin

from clusters.admin import AuditedAdmin, ReadOnlyAdmin
from metrics.models import CustomerRetention, PullSchedule, RetentionClass


@admin.register(RetentionClass)
class RetentionClassAdmin(AuditedAdmin):
    """Retention classes. A shorter one deletes data at the next expiry, for good."""

    list_display = ("name", "days_1m", "days_10m", "days_1h", "is_default")


@admin.register(CustomerRetention)
class CustomerRetentionAdmin(AuditedAdmin):
    """Which customer has which class; without a row the default class holds."""

    list_display = ("customer", "retention_class")
    list_select_related = ("customer", "retention_class")


@admin.register(PullSchedule)
class PullScheduleAdmin(ReadOnlyAdmin):
    """When each cluster is pulled next, and how the last pull went."""

    list_display = ("cluster", "stream", "due_at", "last_ok_at", "failures", "error_code")
    list_select_related = ("cluster",)
    search_fields = ("cluster__name",)
