"""Every HTTP route of the centre."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from opscenter.views import add, cluster, fleet, health

urlpatterns = [
    path("", fleet.fleet, name="fleet"),
    path("fleet/updates/", fleet.updates, name="fleet_updates"),
    path("pods/", fleet.fleet, name="pods"),
    path("clusters/add/", add.add, name="cluster_add"),
    path("clusters/<uuid:cluster_id>/", cluster.cluster_page, name="cluster"),
    path("clusters/<uuid:cluster_id>/join/", add.join, name="cluster_join"),
    path("clusters/<uuid:cluster_id>/key/", add.register_key, name="cluster_key"),
    path("clusters/<uuid:cluster_id>/labels/", cluster.change_labels, name="cluster_labels"),
    path("clusters/<uuid:cluster_id>/revoke/", cluster.revoke, name="cluster_revoke"),
    path("clusters/<uuid:cluster_id>/delete/", cluster.delete, name="cluster_delete"),
    path("healthz", health.healthz, name="healthz"),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
]
