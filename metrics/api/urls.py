"""Routes of the API about metrics, below /api/v1/."""

from __future__ import annotations

from django.urls import re_path

from clusters.api.base import CLUSTER_PATH
from metrics.api import erasures, exports, retention, source, views
from metrics.api.base import CUSTOMER_PATH
from metrics.api.exports import EXPORT_PATH

urlpatterns = [
    re_path(rf"^{CLUSTER_PATH}/nodes/?$", views.NodeListView.as_view(), name="nodes"),
    re_path(rf"^{CLUSTER_PATH}/pods/?$", views.PodListView.as_view(), name="pods"),
    re_path(
        rf"^{CLUSTER_PATH}/filesystems/?$", views.FilesystemListView.as_view(), name="filesystems"
    ),
    re_path(rf"^{CLUSTER_PATH}/range/?$", views.RangeView.as_view(), name="range"),
    re_path(rf"^{CLUSTER_PATH}/raw/?$", views.RawView.as_view(), name="raw"),
    re_path(rf"^{CLUSTER_PATH}/top/?$", views.ClusterTopView.as_view(), name="cluster_top"),
    re_path(r"^top/?$", views.FleetTopView.as_view(), name="top"),
    re_path(rf"^{CLUSTER_PATH}/windows/?$", views.WindowListView.as_view(), name="windows"),
    re_path(rf"^{CLUSTER_PATH}/backfill/?$", source.BackfillView.as_view(), name="backfill"),
    re_path(rf"^{CLUSTER_PATH}/source/?$", source.SourceView.as_view(), name="source"),
    re_path(
        rf"^{CLUSTER_PATH}/source/test/?$", source.SourceTestView.as_view(), name="source-test"
    ),
    re_path(rf"^{CLUSTER_PATH}/etcd/?$", source.EtcdView.as_view(), name="etcd"),
    re_path(rf"^{CLUSTER_PATH}/etcd/test/?$", source.EtcdTestView.as_view(), name="etcd-test"),
    re_path(
        rf"^{CLUSTER_PATH}/retention/?$",
        retention.ClusterRetentionView.as_view(),
        name="cluster-retention",
    ),
    re_path(rf"^{CLUSTER_PATH}/hold/?$", retention.ClusterHoldView.as_view(), name="cluster-hold"),
    re_path(r"^customers/?$", retention.CustomerListView.as_view(), name="customers"),
    re_path(
        rf"^{CUSTOMER_PATH}/retention/?$",
        retention.CustomerRetentionView.as_view(),
        name="customer-retention",
    ),
    re_path(
        rf"^{CUSTOMER_PATH}/hold/?$", retention.CustomerHoldView.as_view(), name="customer-hold"
    ),
    re_path(
        rf"^{CUSTOMER_PATH}/erase/?$", erasures.CustomerEraseView.as_view(), name="customer-erase"
    ),
    re_path(r"^exports/?$", exports.ExportListView.as_view(), name="exports"),
    re_path(rf"^{EXPORT_PATH}/?$", exports.ExportDetailView.as_view(), name="export"),
    re_path(rf"^{EXPORT_PATH}/file/?$", exports.ExportFileView.as_view(), name="export-file"),
    re_path(r"^erasures/?$", erasures.ErasureListView.as_view(), name="erasures"),
    re_path(
        r"^erasures/(?P<erasure_id>[0-9a-fA-F-]{36})/?$",
        erasures.ErasureDetailView.as_view(),
        name="erasure",
    ),
    re_path(r"^retention-classes/?$", retention.ClassListView.as_view(), name="retention-classes"),
    re_path(
        r"^retention-classes/(?P<class_id>[0-9]{1,15})/?$",
        retention.ClassDetailView.as_view(),
        name="retention-class",
    ),
]
