"""The interface of every metric store.

A store keeps three tiers (:data:`metrics.series.catalog.TIERS`) of rollups, the newest values of
every series, and each stream's watermark and gap ledger. Writing is idempotent: writing the same
batch again changes nothing, and a bucket over fewer samples never replaces one over more.

Times are Unix seconds, UTC. A bucket is labelled by its start and covers
``[start, start + width)``.
"""

from __future__ import annotations

from typing import Protocol

from metrics.stores.copier import MetricCopier
from metrics.stores.housekeeping import MetricHousekeeping
from metrics.stores.identity import IdentifiedStore
from metrics.stores.writer import MetricWriter


class MetricStore(MetricWriter, MetricCopier, MetricHousekeeping, IdentifiedStore, Protocol):
    """A complete store; code that needs only a part of it uses that part's type.

    Methods may block on disk or network; none is async. ``cluster`` is always the id of a cluster
    that the caller may use. Writer and copier are also readers
    (:class:`metrics.stores.reader.MetricReader`).
    """
