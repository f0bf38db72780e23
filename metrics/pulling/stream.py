"""One stream of one cluster in the store: what is read of it, and the lease under which.

Live pulls and the filling of gaps both change a stream's ledger, so each change is read and
written under one short lease. Even without it nothing would be lost: a window written from old
knowledge is one gap too many, which is requested again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import UUID

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.series.windows import Position, Window
from metrics.stores.writer import MetricWriter
from opscenter.core import leases

CLUSTER_KEY = SeriesKey("cluster", "", "")
LOCK_SECONDS = 60
LOCK_WAIT_SECONDS = 20
# What a source measures: not how many nodes there are, and not etcd, which is read in addition.
_MEASURED = tuple(
    name
    for name in FIELD_NAMES["cluster"]
    if name != "nodes_total" and not name.startswith("etcd_")
)
_COMMON = ("mem_ws", "nodes_ready")  # nearly every minute has one of them


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of one cluster, in the store."""

    store: MetricWriter
    cluster: UUID
    name: str

    def position(self) -> Position:
        """Return the stream's position."""
        return self.store.position(self.cluster, self.name)

    def windows(self, start: int, end: int, *states: str) -> list[Window]:
        """Return the windows that overlap ``[start, end)``; only of ``states`` if given."""
        if end <= start:
            return []
        return self.store.windows(self.cluster, self.name, start, end, states=states)

    def open_gaps(self) -> list[Window]:
        """Return every window in state gap between the watermark and the head, ascending."""
        position = self.position()
        if position.watermark is None or position.head is None:
            return []
        return self.windows(position.watermark, position.head, "gap")

    def stored(self, start: int, end: int) -> set[int]:
        """Return the starts of the minutes of ``[start, end)`` of which a value is stored.

        A minute with nodes of which nothing is known does not count.
        """
        named = self._minutes(("nodes_total", *_COMMON), start, end)
        found = set[int]().union(*(named[field] for field in _COMMON))
        if not named["nodes_total"] <= found:
            found = found.union(*self._minutes(_MEASURED, start, end).values())
        if found:
            return found
        # A source may have pods but no nodes.
        pods = self.store.read_many(self.cluster, "pod", "mem_ws", "1m", start, end)
        return {minute for column in pods.values() for minute in column.t}

    def _minutes(self, fields: Sequence[str], start: int, end: int) -> dict[str, set[int]]:
        found = self.store.read_fields(self.cluster, CLUSTER_KEY, fields, "1m", start, end)
        return {field: set(columns.t) for field, columns in found.items()}


def locked(stream: Stream) -> AbstractContextManager[None]:
    """Return the lease under which a stream's ledger is read and written."""
    name = f"ledger:{stream.cluster}:{stream.name}"
    return leases.wait_for(name, LOCK_SECONDS, timeout_seconds=LOCK_WAIT_SECONDS)
