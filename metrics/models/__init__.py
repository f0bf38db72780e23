"""What the centre stores in Django's database about pulls and retention.

The values themselves, their watermark and the gap ledger are together in the metric store.
"""

from __future__ import annotations

from metrics.models.exports import Export
from metrics.models.influxdb_store import (
    MetricCluster,
    MetricPlace,
    MetricPosition,
    MetricSeries,
    MetricWindow,
)
from metrics.models.pulls import MetricSource, PullSchedule
from metrics.models.retention import ClusterRetention, CustomerRetention, Erasure, RetentionClass

__all__ = [
    "ClusterRetention", "CustomerRetention", "Erasure", "Export", "MetricCluster", "MetricPlace",
    "MetricPosition", "MetricSeries", "MetricSource", "MetricWindow", "PullSchedule",
    "RetentionClass",
]  # fmt: skip
