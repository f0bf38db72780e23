"""Which clock names a time: a cluster's minutes have the names that its own clock gave them.

What says how old something is (``as_of``, *first seen*) is told by ours; ranges, windows of the
ledger and buckets keep the names of the cluster's minutes.
"""

from __future__ import annotations

from clusters.models import Cluster
from opscenter.core.ages import skew_seconds


def seconds_ahead(cluster: Cluster) -> int:
    """Return by how much a cluster's clock is ahead of ours; 0 for a usual or unknown difference.

    Args:
        cluster: the cluster, read with ``current``.
    """
    current = getattr(cluster, "current", None)
    return round(skew_seconds(None if current is None else current.clock_skew_ms))
