"""The progress of a cluster's pulls, for pages and the API."""

from __future__ import annotations

from clusters.models import Cluster
from metrics.models import PullSchedule
from metrics.pulling.progress import Progress, measured
from metrics.query import position, windows
from metrics.series.windows import STREAM


def progress_of(cluster: Cluster) -> Progress:
    """Return the progress of filling gaps. One query, and the ledger's open gaps."""
    stored = PullSchedule.objects.filter(cluster=cluster, stream=STREAM).values_list(
        "progress", flat=True
    )
    at = position(cluster)
    if at.watermark is None or at.head is None or at.watermark >= at.head:
        return measured([], {})
    gaps = windows(cluster, at.watermark, at.head, ("gap",))
    return measured(gaps, stored.first() or {})
