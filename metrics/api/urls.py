"""Routes of the API about numbers over time, below /api/v1/."""

from __future__ import annotations

from django.urls import re_path

from clusters.api.base import CLUSTER_PATH
from metrics.api import views

urlpatterns = [
    re_path(rf"^{CLUSTER_PATH}/nodes/?$", views.NodeListView.as_view(), name="nodes"),
    re_path(rf"^{CLUSTER_PATH}/pods/?$", views.PodListView.as_view(), name="pods"),
    re_path(
        rf"^{CLUSTER_PATH}/filesystems/?$", views.FilesystemListView.as_view(), name="filesystems"
    ),
    re_path(rf"^{CLUSTER_PATH}/range/?$", views.RangeView.as_view(), name="range"),
    re_path(rf"^{CLUSTER_PATH}/windows/?$", views.WindowListView.as_view(), name="windows"),
]
