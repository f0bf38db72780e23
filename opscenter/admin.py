"""Users, roles and second factors in the admin: every change an audit line, no secret shown.

Group membership is the role (:mod:`clusters.access`), so that these changes are grants.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse

from clusters import audit
from clusters.admin import AuditedAdmin
from opscenter.core import realtime

for _model in (User, Group, Authenticator, EmailAddress):
    admin.site.unregister(_model)


@admin.register(User)
class AuditedUserAdmin(AuditedAdmin, UserAdmin):  # type: ignore[type-arg]
    """Users and their roles."""

    def save_model(self, request: HttpRequest, obj: models.Model, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's signature
        """Save the user, record its rights, and make its sockets check again."""
        super().save_model(request, obj, form, change)
        detail = {
            "user": str(obj),
            "active": form.instance.is_active,
            "superuser": form.instance.is_superuser,
            "staff": form.instance.is_staff,
        }
        groups = form.cleaned_data.get("groups")
        if groups is not None:
            detail["groups"] = sorted(group.name for group in groups)
        audit.record("user.rights", actor=request.user, detail=detail)
        transaction.on_commit(partial(realtime.publish_user, int(form.instance.pk)))

    def user_change_password(
        self,
        request: HttpRequest,
        id: str,  # noqa: A002 - Django's signature
        form_url: str = "",
    ) -> HttpResponse:
        """Set somebody's password; a change is recorded."""
        response: HttpResponse = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == 302:
            name = str(User.objects.filter(pk=id).first() or id)
            audit.record("user.password", actor=request.user, detail={"user": name})
        return response


@admin.register(Group)
class AuditedGroupAdmin(AuditedAdmin, GroupAdmin):
    """Groups; ``operators`` and ``auditors`` are the roles."""


@admin.register(Authenticator)
class AuthenticatorAdmin(AuditedAdmin):
    """Second factors: deleted here for users who lost the device; their content is not shown."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_select_related = ("user",)
    exclude = ("data",)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Return False."""
        return False
