"""Times that a cluster's own clock told, by ours: only those say how old something is. Pure."""

from __future__ import annotations

from clusters.models import Cluster
from opscenter.core.ages import skew_seconds


def by_our_clock(at: float, cluster: Cluster) -> float:
    """Return a time of a cluster's minutes by our clock, as its newest data is judged.

    Args:
        at: Unix seconds by the cluster's clock.
        cluster: the cluster, read with ``current``.
    """
    current = getattr(cluster, "current", None)
    return at - skew_seconds(None if current is None else current.clock_skew_ms)
