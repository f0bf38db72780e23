"""The admin of retention and pulls, read-only. Pages and API change retention, with a preview."""

from __future__ import annotations

from django.contrib import admin

from clusters.admin import ReadOnlyAdmin
from metrics.models import (
    ClusterRetention,
    CustomerRetention,
    Erasure,
    Export,
    MetricSource,
    PullSchedule,
    RetentionClass,
)


@admin.register(RetentionClass)
class RetentionClassAdmin(ReadOnlyAdmin):
    """Retention classes; the page "Retention" changes them and shows first what that deletes."""

    list_display = ("name", "is_default")


@admin.register(CustomerRetention)
class CustomerRetentionAdmin(ReadOnlyAdmin):
    """Which customer has which class; without a row the default class applies."""

    list_display = ("customer", "retention_class")
    list_select_related = ("customer", "retention_class")


@admin.register(ClusterRetention)
class ClusterRetentionAdmin(ReadOnlyAdmin):
    """The limits in force for each cluster, and up to when its data was deleted."""

    list_display = ("cluster_id", "shorter_since", "swept_day")
    search_fields = ("cluster_id",)


@admin.register(Erasure)
class ErasureAdmin(ReadOnlyAdmin):
    """Customers whose data was erased, or is being erased."""

    list_display = ("customer_name", "state", "requested_by", "requested_at", "finished_at")


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    """Exports: who made which, and whether the file is still there."""

    list_display = ("id", "customer", "cluster", "format", "state", "requested_by", "requested_at")
    list_select_related = ("customer", "cluster")


@admin.register(PullSchedule)
class PullScheduleAdmin(ReadOnlyAdmin):
    """When each cluster is pulled next, and how the last pull went."""

    list_display = ("cluster", "stream", "due_at", "last_ok_at", "failures", "error_code")
    list_select_related = ("cluster",)
    search_fields = ("cluster__name",)


@admin.register(MetricSource)
class MetricSourceAdmin(ReadOnlyAdmin):
    """Each cluster's source; changed on the cluster's page, where it is tested."""

    list_display = ("cluster", "role", "kind", "service", "changed_by", "changed_at")
    list_select_related = ("cluster",)
    exclude = ("sealed", "state")
    search_fields = ("cluster__name",)
