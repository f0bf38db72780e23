"""The part of a metric store that copies and exports use: everything, as it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from metrics.series.catalog import Kind
from metrics.series.rows import Cell, SeriesKey
from metrics.stores.reader import LastRow, MetricReader


class StoredRow(NamedTuple):
    """One row as it is stored, to be copied and counted."""

    ts: int
    key: SeriesKey
    n: int
    """In the 1m tier the minute's number of samples (for a cluster: nodes), else of minutes."""
    cells: tuple[Cell | None, ...]
    """In catalogue order; None = not measured."""


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """A series as it is stored.

    ``first_ts`` is the first minute ever stored, ``last_ts`` that of its
    :class:`~metrics.stores.reader.LastRow`, or the first one if it has none.
    """

    key: SeriesKey
    node: str
    attrs: Mapping[str, str]
    first_ts: int
    last_ts: int


class MetricCopier(MetricReader, Protocol):
    """Reads series and rows as they are stored, and stores them as read from another store."""

    def series(self, cluster: UUID) -> list[StoredSeries]:
        """Return all series of a cluster, by kind, ns and name."""

    def put_series(self, cluster: UUID, series: Iterable[StoredSeries]) -> None:
        """Create or change series as read from another store; earlier first minutes win."""

    def put_last(self, cluster: UUID, rows: Iterable[LastRow]) -> None:
        """Write the newest minutes as read from another store; newer ones here stay."""

    def scan(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> Iterator[StoredRow]:
        """Yield the rows with ``start <= ts < end``, ascending by ts, then by ns and name.

        Reads block by block, so that nothing is blocked while the caller works. Rows that are
        written meanwhile may or may not be among them.
        """

    def load(self, cluster: UUID, kind: Kind, tier: str, rows: Iterable[StoredRow]) -> int:
        """Store rows as they are, and nothing else: no rollups, last values or cluster rows.

        A row with a smaller ``n`` than the stored one changes nothing. Unknown series are created.
        One transaction.

        Returns:
            How many rows were given.
        """
