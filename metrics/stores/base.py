"""What every metric store offers.

A store keeps three tiers (:data:`metrics.series.catalog.TIERS`) of rollups, the newest values of
every series, and each stream's watermark and gap ledger. Writing is idempotent: the same batch
again changes nothing, and a bucket over fewer samples never replaces one over more.

Times are Unix seconds, UTC. A bucket is labelled by its start and covers
``[start, start + width)``.
"""

from __future__ import annotations

from typing import Protocol

from metrics.stores.copier import MetricCopier
from metrics.stores.housekeeping import MetricHousekeeping
from metrics.stores.writer import MetricWriter


class MetricStore(MetricWriter, MetricCopier, MetricHousekeeping, Protocol):
    """A whole store; who needs a part of it only names that part.

    Methods may block on disk or network; none is async. ``cluster`` is always the id of a cluster
    that the caller was allowed to use. Writer and copier are readers too
    (:class:`metrics.stores.reader.MetricReader`).
    """
