"""Routes of the API about clusters, below /api/v1/."""

from __future__ import annotations

from django.urls import re_path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from clusters.api import history, inventory, views
from clusters.api.base import CLUSTER_PATH
from opscenter.core.schema import SharedSchemaGenerator

urlpatterns = [
    re_path(r"^$", views.RootView.as_view(), name="root"),
    re_path(
        r"^schema/?$",
        SpectacularJSONAPIView.as_view(generator_class=SharedSchemaGenerator),
        name="schema",
    ),
    # The split view loads its script from its own address: the CSP allows no inline one.
    re_path(r"^docs/?$", SpectacularSwaggerSplitView.as_view(url_name="api:schema"), name="docs"),
    re_path(r"^agents/enrol/?$", views.EnrolView.as_view(), name="enrol"),
    re_path(r"^clusters/?$", views.ClusterListView.as_view(), name="clusters"),
    re_path(rf"^{CLUSTER_PATH}/?$", views.ClusterDetailView.as_view(), name="cluster"),
    re_path(rf"^{CLUSTER_PATH}/join-token/?$", views.JoinTokenView.as_view(), name="join-token"),
    re_path(rf"^{CLUSTER_PATH}/revoke/?$", views.RevokeView.as_view(), name="revoke"),
    re_path(rf"^{CLUSTER_PATH}/history/?$", history.HistoryListView.as_view(), name="history"),
    re_path(rf"^{CLUSTER_PATH}/inventory/?$", inventory.InventoryView.as_view(), name="inventory"),
    re_path(
        rf"^{CLUSTER_PATH}/nodes/(?P<name>.+)/dismiss/?$",
        inventory.DismissNodeView.as_view(),
        name="node-dismiss",
    ),
    re_path(rf"^{CLUSTER_PATH}/sessions/?$", views.SessionListView.as_view(), name="sessions"),
]
