"""Every HTTP route of the centre."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from opscenter.views import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
]
