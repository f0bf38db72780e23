"""The stored data: series, cells, rows of minutes and of wider tiers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from metrics.series.catalog import Kind


class SeriesKey(NamedTuple):
    """The identity of a series within its cluster.

    A named tuple: every row is looked up by its key several times, and a frozen dataclass hashes
    in Python.
    """

    kind: Kind
    ns: str
    name: str


class Cell(NamedTuple):
    """One field over one bucket; ``mean = total / n``. ``n`` >= 1.

    ``low`` and ``high`` are None where they are not known: only in the wider tiers, where a
    source's own rollups gave the mean alone.

    A named tuple, as is :class:`MinuteRow`: a fleet makes 200,000 cells a minute, and a frozen
    dataclass costs three times as much.
    """

    n: int
    total: int
    low: int | None
    high: int | None


class MinuteRow(NamedTuple):
    """All fields of one series over one minute, as a source returns it."""

    ts: int
    key: SeriesKey
    cells: tuple[Cell | None, ...]
    """In the order of :data:`metrics.series.catalog.FIELD_NAMES`; None = not measured."""


class CoarseRow(NamedTuple):
    """All fields of one series over one wider bucket, from a source that no longer has its minutes.

    Read from the source's own rollups (5 minutes, an hour) where its raw data is gone.
    """

    tier: str
    """"10m" or "1h": the tier that the row is written to."""
    ts: int
    """Start of the bucket, aligned to the tier's width."""
    key: SeriesKey
    cells: tuple[Cell | None, ...]
    """As in :class:`MinuteRow`; ``n`` is how many minutes the source's values stand for."""


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """What else is known about a series; the newest wins."""

    key: SeriesKey
    node: str = ""
    """The node that a pod runs on; "" for others."""
    attrs: Mapping[str, str] = field(default_factory=dict)
    """Short facts for display: phase, workload, image, role, device, fs type. Never identity."""


@dataclass(frozen=True, slots=True)
class Columns:
    """One field of one series over time, one entry per bucket that has data, ascending.

    ``n`` counts minutes within the bucket (1 in the 1m tier). ``low`` and ``high`` are None where
    they are not known. ``damaged`` are the spans (start, end) with stored buckets that can no
    longer be read, ascending; see :meth:`MetricStore.read_fields`.
    """

    t: list[int]
    n: list[int]
    total: list[int]
    low: list[int | None]
    high: list[int | None]
    damaged: tuple[tuple[int, int], ...] = ()
