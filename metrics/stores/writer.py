"""The part of a metric store that pulls use: it writes a batch, completely or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from metrics.series.rows import CoarseRow, MinuteRow, SeriesInfo
from metrics.series.windows import Window
from metrics.stores.reader import MetricReader


@dataclass(frozen=True, slots=True)
class Batch:
    """The data that one pull writes in one transaction.

    Attributes:
        rows: minutes of nodes, filesystems and pods; the store computes the cluster's rows.
        infos: series seen in this batch.
        windows: ledger windows to write; their key is ``start``.
        watermark: new end of the contiguous data in Unix seconds, or None to leave it; never moves
            back, so that a late duplicate of an older pull does no harm.
        head: new end of the newest data in Unix seconds, or None to leave it; never moves back.
        coarse: wider buckets of nodes, filesystems and pods, where the source has no minutes.
    """

    rows: Sequence[MinuteRow] = ()
    infos: Sequence[SeriesInfo] = ()
    windows: Sequence[Window] = ()
    watermark: int | None = None
    head: int | None = None
    coarse: Sequence[CoarseRow] = ()


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write did not store, because the cluster sent invalid data or too much."""

    refused_cells: int = 0
    """Values beyond :data:`metrics.series.rollups.LARGEST`, fractions, or contradictory ones."""
    skipped_rows: int = 0
    """Rows of series beyond the daily limit of new series, or with unusable names."""
    detail: str = ""
    """One line for display; "" when everything was stored."""


class MetricWriter(MetricReader, Protocol):
    """Writes batches of a stream; reads too, because what is stored decides what is written."""

    def write(self, cluster: UUID, stream: str, batch: Batch) -> WriteResult:
        """Write a batch in one transaction: rows, all rollups, last values, ledger, watermark.

        Idempotent. Cluster-level minutes are recomputed from all nodes stored for each touched
        minute, and the 10m and 1h buckets from all minutes stored for each touched bucket. Coarse
        rows are written to their tier as they are, unless it has a bucket over more minutes; the
        cluster's bucket is computed from those of its nodes
        (:func:`metrics.series.rollups.cluster_bucket`), and hours from their 10-minute buckets.
        Coarse rows do not change the last values.

        Returns:
            What was refused; the rest of the batch is stored.

        Raises:
            StoreError: nothing of the batch was written.
        """
