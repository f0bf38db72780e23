"""The admin: for repair work by administrators. Read-only unless a class says otherwise.

Clusters are changed through the pages and the API, which keep their invariants; here they are only
shown. Customers and grants are created here: no page does that yet. Every change made in the admin
is an audit line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from guardian.admin import GuardedModelAdminMixin

from clusters import audit, legal_holds
from clusters.models import (
    ApiToken,
    AuditEvent,
    Cluster,
    ClusterKey,
    ClusterStatus,
    Customer,
    JoinToken,
    LegalHold,
    TunnelSession,
)

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[models.Model]
else:
    _ModelAdmin = admin.ModelAdmin  # not generic at run time


class ReadOnlyAdmin(_ModelAdmin):
    """Shows rows and changes none."""

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Return False."""
        return False


class AuditedAdmin(_ModelAdmin):
    """Lets administrators change rows, each change an audit line."""

    def save_model(self, request: HttpRequest, obj: models.Model, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's signature
        """Save the row and record which fields changed."""
        super().save_model(request, obj, form, change)
        self._audit(request, obj, "change" if change else "add", sorted(form.changed_data))

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        """Delete the row and record that."""
        self._audit(request, obj, "delete", [])
        super().delete_model(request, obj)

    def delete_queryset(
        self, request: HttpRequest, queryset: models.QuerySet[models.Model]
    ) -> None:
        """Delete several rows, each with its line."""
        for row in queryset:
            self.delete_model(request, row)

    def _audit(self, request: HttpRequest, obj: models.Model, verb: str, fields: list[str]) -> None:
        name = self.model._meta.model_name
        detail: dict[str, Any] = {"object": str(obj)[:200], "fields": fields}
        audit.record(f"admin.{name}.{verb}"[:50], actor=request.user, detail=detail)


class AuditedGrants(GuardedModelAdminMixin):
    """Guardian's pages of object permissions; every change of a grant is an audit line."""

    def obj_perms_manage_user_view(
        self, request: HttpRequest, object_pk: str, user_id: int
    ) -> HttpResponse:
        """Show and change what one user may do with one object."""
        with transaction.atomic():
            response = super().obj_perms_manage_user_view(  # type: ignore[no-untyped-call]
                request, object_pk, user_id
            )
            _audit_grants(request, object_pk, user=User.objects.filter(pk=user_id).first())
        return cast("HttpResponse", response)

    def obj_perms_manage_group_view(
        self, request: HttpRequest, object_pk: str, group_id: int
    ) -> HttpResponse:
        """Show and change what one group may do with one object."""
        with transaction.atomic():
            response = super().obj_perms_manage_group_view(  # type: ignore[no-untyped-call]
                request, object_pk, group_id
            )
            _audit_grants(request, object_pk, group=Group.objects.filter(pk=group_id).first())
        return cast("HttpResponse", response)


def _audit_grants(
    request: HttpRequest, object_pk: str, *, user: User | None = None, group: Group | None = None
) -> None:
    """Record what was granted; nothing for a page that was only viewed."""
    if request.method != "POST":
        return
    detail = {
        "object": object_pk,
        "user": user.username if user else "",
        "group": group.name if group else "",
        "permissions": sorted(request.POST.getlist("permissions")),
    }
    audit.record("grant.change", actor=request.user, detail=detail)


@admin.register(Customer)
class CustomerAdmin(AuditedGrants, AuditedAdmin):  # type: ignore[misc]
    """Customers, and who may see their clusters (the button "Object permissions")."""

    list_display = ("name", "created_at")
    search_fields = ("name",)


@admin.register(Cluster)
class ClusterAdmin(AuditedGrants, AuditedAdmin):  # type: ignore[misc]
    """Clusters: which customer they belong to, and grants of single ones.

    Nothing is added or deleted here: that would bypass the services.
    """

    list_display = ("name", "customer", "status", "kind", "agent_version", "simulated")
    list_filter = ("status", "kind", "simulated")
    list_select_related = ("customer",)
    search_fields = ("name", "id")
    readonly_fields = (
        "id", "name", "labels", "status", "simulated", "agent_version", "kind", "conflict_at",
        "conflict_detail", "created_at", "enrolled_at",
    )  # fmt: skip

    def get_readonly_fields(
        self, request: HttpRequest, obj: models.Model | None = None
    ) -> tuple[str, ...]:
        """Return the fields that cannot be changed; under a legal hold, the customer is one."""
        fields = tuple(super().get_readonly_fields(request, obj))
        held = isinstance(obj, Cluster) and legal_holds.standing(obj)
        return (*fields, "customer") if held else fields

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Return False."""
        return False


@admin.register(LegalHold)
class LegalHoldAdmin(ReadOnlyAdmin):
    """Legal holds: placed and lifted on the customer's page and the API."""

    list_display = ("customer", "cluster", "reason", "placed_by", "placed_at")
    list_select_related = ("customer", "cluster")


@admin.register(ClusterStatus)
class ClusterStatusAdmin(ReadOnlyAdmin):
    """What is known about each cluster now."""

    list_display = ("cluster", "state", "since", "was", "data_as_of", "tunnel_up", "pull_error")
    list_filter = ("state", "tunnel_up")
    list_select_related = ("cluster",)
    search_fields = ("cluster__name",)


@admin.register(ClusterKey)
class ClusterKeyAdmin(ReadOnlyAdmin):
    """Keys of agents."""

    list_display = ("fingerprint", "cluster", "status", "created_at", "last_used_at")
    list_filter = ("status",)
    list_select_related = ("cluster",)
    search_fields = ("fingerprint", "cluster__name")


@admin.register(JoinToken)
class JoinTokenAdmin(ReadOnlyAdmin):
    """Join tokens, without the token itself: only a hash is stored, and it is not shown."""

    list_display = ("cluster", "created_at", "created_by", "expires_at", "used_at", "used_from")
    list_select_related = ("cluster", "created_by")
    exclude = ("digest",)


@admin.register(TunnelSession)
class TunnelSessionAdmin(ReadOnlyAdmin):
    """Tunnels, open and ended."""

    list_display = ("cluster", "hub", "state", "remote_address", "connected_at", "ended_at")
    list_filter = ("state", "hub", "transport")
    list_select_related = ("cluster",)
    search_fields = ("cluster__name", "remote_address")


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """The audit log."""

    list_display = ("at", "actor", "action", "cluster_id", "ok")
    list_filter = ("action", "ok")
    search_fields = ("actor", "cluster_id")
    ordering = ("-id",)


@admin.register(ApiToken)
class ApiTokenAdmin(AuditedAdmin):
    """API tokens: they can be deleted here; ``manage.py create_token`` makes them."""

    list_display = ("name", "user", "read_only", "created", "expiry", "last_used_at")
    list_select_related = ("user",)
    exclude = ("digest", "token_key")

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Return False."""
        return False
