"""The answers of :mod:`metrics.query`. Times are Unix seconds; ``as_of`` is the end of a minute.

None always means "not measured" or "never", not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from metrics.series.catalog import Unit
from metrics.series.rows import SeriesKey
from metrics.series.windows import Reason, WindowState

SegmentState = Literal["done", "gap", "lost", "pending", "none"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which minutes are missing, and why; clipped to the requested range.

    ``got`` of its ``expected`` minutes are stored: a window is a gap as soon as one is missing.
    ``detail`` says how many are missing, and why.
    """

    start: int
    end: int
    state: WindowState
    reason: Reason
    detail: str
    got: int = 0
    expected: int = 0


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """One field over time: equally long columns, one entry per bucket that has data.

    ``samples`` counts the minutes that have data, ``expected`` those that could (in the open newest
    bucket: so far), and ``coverage`` is their ratio, 0..1. ``due`` is the number of minutes that
    the whole range could have, including those without a bucket. ``start`` and ``end`` are the
    requested range rounded out to whole buckets.
    """

    t: list[int]
    mean: list[float]
    min: list[int | None]  # None where a source's own rollups gave the mean alone
    max: list[int | None]
    coverage: list[float]
    samples: list[int]
    expected: list[int]
    due: int
    tier: str
    step: int  # seconds; wider than the tier where buckets were merged for the answer
    unit: Unit
    start: int
    end: int
    gaps: tuple[Gap, ...]
    as_of: int | None  # end of the cluster's newest data


@dataclass(frozen=True, slots=True)
class SeriesNow:
    """One node, filesystem or pod as last measured."""

    key: SeriesKey
    as_of: int  # end of its newest minute, by our clock
    minute_end: int  # the same as the cluster's own clock names it, as ranges are asked for
    present: bool  # False: gone, not in the cluster's newest minutes
    node: str  # of a pod; "" for others
    attrs: Mapping[str, str]
    values: Mapping[str, int | None]  # every field of the kind

    @property
    def name(self) -> str:
        """Return the name; for a filesystem its mount point."""
        return self.key.name

    @property
    def ns(self) -> str:
        """Return a pod's namespace, a filesystem's node, "" for a node."""
        return self.key.ns

    def ratio(self, part: str, whole: str) -> float | None:
        """Return one field as a share of another, 0..1 (above 1 if it is larger)."""
        amount, total = self.values[part], self.values[whole]
        return None if amount is None or not total else amount / total

    @property
    def cpu_ratio(self) -> float | None:
        """Return a node's CPU usage as a share of its capacity."""
        return self.ratio("cpu_mc", "cpu_cap_mc")

    @property
    def memory_ratio(self) -> float | None:
        """Return a node's memory working set as a share of its capacity."""
        return self.ratio("mem_ws", "mem_cap")

    @property
    def used_ratio(self) -> float | None:
        """Return how full a filesystem is."""
        return self.ratio("used", "cap")

    @property
    def inodes_ratio(self) -> float | None:
        """Return the share of a node's or filesystem's inodes that is in use."""
        total, free = self.values["inodes_total"], self.values["inodes_free"]
        return None if free is None or not total else (total - free) / total

    @property
    def ready(self) -> bool | None:
        """Return whether a node reported that it is ready; None if it did not report it."""
        ready = self.values["ready"]
        return None if ready is None else ready > 0


@dataclass(frozen=True, slots=True)
class SeriesList:
    """Series of one kind of one cluster.

    ``total`` counts all matches of the search, ``items`` has at most the requested number of them.
    """

    as_of: int | None  # end of the cluster's newest data, by our clock; None before the first
    total: int
    items: tuple[SeriesNow, ...]


@dataclass(frozen=True, slots=True)
class SeriesDetail:
    """One node or pod; ``first_seen`` is its first minute ever stored. Times by our clock."""

    now: SeriesNow
    first_seen: int
    cluster_as_of: int | None


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One series' cells, as long as the answer's ``t``; None where there is no data."""

    key: SeriesKey
    mean: tuple[float | None, ...]
    max: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class HeatAnswer:
    """One field of all series of a kind on a common grid of cells; rows by ns and name."""

    t: tuple[int, ...]
    step: int
    tier: str
    unit: Unit
    start: int
    end: int
    rows: tuple[HeatRow, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of the coverage strip; neighbours differ in state, reason or ``filled``.

    ``none`` is before the cluster's first window, ``pending`` after its newest data. A ``done``
    segment that was ``filled`` later keeps its reason.
    """

    start: int
    end: int
    state: SegmentState
    reason: Reason
    detail: str
    got: int  # minutes
    expected: int
    filled: bool
