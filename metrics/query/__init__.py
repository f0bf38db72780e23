"""The read interface of metrics: ranges, lists, heat strips and the ledger of clusters.

Other apps read metrics here and nowhere else. Every function takes a :class:`Cluster` that the
caller may see, never an id, and ``now`` as Unix time. Only :func:`raw` queries a cluster: stored
data stays readable while the cluster is unreachable.
"""

from __future__ import annotations

from metrics.query.answers import (
    Gap,
    HeatAnswer,
    HeatRow,
    RangeAnswer,
    Segment,
    SeriesDetail,
    SeriesList,
    SeriesNow,
)
from metrics.query.clock import seconds_ahead
from metrics.query.comparison import OFFSETS, TITLES, Comparison, former_bucket
from metrics.query.newest import (
    FoundPods,
    FoundSeries,
    cluster_now,
    filesystems,
    gone_pods,
    node,
    nodes,
    pod,
    pods,
    pods_since,
    search_pods,
)
from metrics.query.ranges import (
    compare,
    coverage,
    fields_query,
    heat,
    minutes_due,
    odd_windows,
    position,
    range_query,
    windows,
)
from metrics.query.raw_values import has_raw, raw
from metrics.query.top_list import By, TopAnswer, TopEntry, top
from metrics.query.turns import reading
from metrics.query.validation import MetricsUnavailableError
from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM, Window

__all__ = [
    "OFFSETS", "STREAM", "TITLES", "By", "Comparison", "FoundPods", "FoundSeries", "Gap",
    "HeatAnswer", "HeatRow", "MetricsUnavailableError", "RangeAnswer", "Segment", "SeriesDetail",
    "SeriesKey",
    "SeriesList", "SeriesNow", "TopAnswer", "TopEntry", "Window", "cluster_now", "compare",
    "coverage", "fields_query", "filesystems", "former_bucket", "gone_pods", "has_raw", "heat",
    "minutes_due", "node", "nodes", "odd_windows", "pod", "pods", "pods_since", "position",
    "range_query", "raw", "reading", "search_pods", "seconds_ahead", "top", "windows",
]  # fmt: skip
