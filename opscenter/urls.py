"""Every HTTP route of the centre."""

from __future__ import annotations

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path, register_converter

from clusters.api.urls import urlpatterns as clusters_api
from metrics.api.urls import urlpatterns as metrics_api
from metrics.prometheus_api.urls import urlpatterns as prometheus_api
from opscenter.monitoring import views
from opscenter.pages import (
    add_cluster,
    charts,
    cluster,
    customer_retention,
    exports,
    fleet,
    help_pages,
    history,
    node,
    pod,
    pods,
    retention,
    source,
)
from opscenter.web.url_converters import Anything, Segment

register_converter(Segment, "segment")
register_converter(Anything, "anything")

api_patterns = [*clusters_api, *metrics_api]

# The admin's own form knows neither the second factor nor the lock-out of the sign-in page.
admin.autodiscover()
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("", fleet.fleet, name="fleet"),
    path("fleet/updates/", fleet.updates, name="fleet_updates"),
    path("history/", history.fleet_history, name="history"),
    path("pods/", pods.pods, name="pods"),
    path("pods.csv", pods.pods_file, name="pods_file"),
    path("clusters/add/", add_cluster.add, name="cluster_add"),
    path("clusters/<uuid:cluster_id>/", cluster.cluster_page, name="cluster"),
    path("clusters/<uuid:cluster_id>/pods.csv", pods.cluster_pods_file, name="cluster_pods_file"),
    path(
        "clusters/<uuid:cluster_id>/history.csv", history.history_file, name="cluster_history_file"
    ),
    path(
        "clusters/<uuid:cluster_id>/nodes/<anything:name>/dismiss/",
        node.dismiss,
        name="node_dismiss",
    ),
    path("clusters/<uuid:cluster_id>/nodes/<anything:name>/", node.node_page, name="node"),
    path("clusters/<uuid:cluster_id>/pods/<segment:ns>/<anything:name>/", pod.pod_page, name="pod"),
    path("clusters/<uuid:cluster_id>/chart/<slug:panel>.<slug:form>", charts.chart, name="chart"),
    path("clusters/<uuid:cluster_id>/join/", add_cluster.join, name="cluster_join"),
    path("clusters/<uuid:cluster_id>/key/", add_cluster.register_key, name="cluster_key"),
    path("clusters/<uuid:cluster_id>/labels/", cluster.change_labels, name="cluster_labels"),
    path("clusters/<uuid:cluster_id>/source/", source.source, name="cluster_source"),
    path("clusters/<uuid:cluster_id>/source/remove/", source.remove, name="cluster_source_remove"),
    path("clusters/<uuid:cluster_id>/revoke/", cluster.revoke, name="cluster_revoke"),
    path("clusters/<uuid:cluster_id>/delete/", cluster.delete, name="cluster_delete"),
    path("clusters/<uuid:cluster_id>/hold/", customer_retention.cluster_hold, name="cluster_hold"),
    path("clusters/<uuid:cluster_id>/lift/", customer_retention.cluster_lift, name="cluster_lift"),
    path("help/", help_pages.overview, name="help"),
    path("help/states/", help_pages.states, name="help_states"),
    path("help/docs/<slug:name>.md", help_pages.document, name="help_document"),
    path("retention/", retention.overview, name="retention"),
    path("retention/add/", retention.add_class, name="retention_add"),
    path("retention/<int:class_id>/", retention.change_class, name="retention_class"),
    path("retention/<int:class_id>/delete/", retention.delete_class, name="retention_delete"),
    path("customers/<uuid:customer_id>/", customer_retention.customer_page, name="customer"),
    path(
        "customers/<uuid:customer_id>/class/",
        customer_retention.choose_class,
        name="customer_class",
    ),
    path("customers/<uuid:customer_id>/hold/", customer_retention.place_hold, name="customer_hold"),
    path("customers/<uuid:customer_id>/erase/", customer_retention.erase, name="customer_erase"),
    path("exports/<slug:which>/<uuid:target_id>/", exports.exports, name="exports"),
    path("exports/<uuid:export_id>/file/", exports.export_file, name="export_file"),
    path("exports/<uuid:export_id>/delete/", exports.delete_export, name="export_delete"),
    path("customers/<uuid:customer_id>/lift/", customer_retention.lift_hold, name="customer_lift"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", views.MetricsView.as_view(), name="metrics"),
    path("admin/", admin.site.urls),
    path("accounts/", include("clusters.accounts.urls")),
    path("api/v1/", include((api_patterns, "api"))),
    path("prometheus/api/v1/", include((prometheus_api, "prometheus"))),
]

handler400 = "opscenter.pages.errors.bad_request"
handler403 = "opscenter.pages.errors.permission_denied"
handler404 = "opscenter.pages.errors.not_found"
handler500 = "opscenter.pages.errors.server_error"
handler429 = "opscenter.pages.errors.too_many"  # our own: for BudgetMiddleware
handler503 = "opscenter.pages.errors.unavailable"  # our own: for DatabaseTroubleMiddleware
