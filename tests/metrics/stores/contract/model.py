"""What a store must answer, told by plain dictionaries and :mod:`metrics.series.rollups` alone."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import strategies as st

from metrics.series import rollups
from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, Columns, MinuteRow, SeriesKey
from metrics.stores.writer import Batch
from tests.metrics.stores.contract.rows import (
    CLUSTER,
    NODE,
    POD,
    T0,
)


class Model:
    """A store of one cluster in dictionaries, as slow and as plain as can be."""

    def __init__(self) -> None:
        self.samples: dict[tuple[SeriesKey, int], int] = {}
        self.minutes: dict[SeriesKey, dict[int, tuple[Cell | None, ...]]] = defaultdict(dict)

    def write(self, batch: Batch) -> None:
        for entry in batch.rows:
            cells = tuple(rollups.minute(c) for c in entry.cells)
            samples = max(
                (
                    c.n
                    for c, retention_seconds in zip(entry.cells, cells, strict=True)
                    if c and retention_seconds
                ),
                default=0,
            )
            if samples >= self.samples.get((entry.key, entry.ts), 0):
                self.samples[entry.key, entry.ts] = samples
                self.minutes[entry.key][entry.ts] = cells
        for ts in {entry.ts for entry in batch.rows if entry.key.kind == "node"}:
            nodes = [
                by_ts[ts]
                for key, by_ts in self.minutes.items()
                if key.kind == "node" and ts in by_ts
            ]
            self.minutes[CLUSTER][ts] = rollups.cluster_minute(nodes)

    def read(self, key: SeriesKey, field: str, tier: str, start: int, end: int) -> Columns:
        at = FIELD_NAMES[key.kind].index(field)
        buckets: dict[int, list[Cell | None]] = defaultdict(list)
        for ts, cells in self.minutes[key].items():
            buckets[rollups.bucket_start(ts, TIERS[tier])].append(cells[at])
        found = Columns([], [], [], [], [])
        for ts in sorted(buckets):
            merged = rollups.merge(buckets[ts])
            if merged and start <= ts < end:
                found.t.append(ts)
                found.n.append(merged.n)
                found.total.append(merged.total)
                found.low.append(merged.low)
                found.high.append(merged.high)
        return found


def _cells(kind: str) -> st.SearchStrategy[tuple[Cell | None, ...]]:
    value = st.integers(-(2**58), 2**58) | st.integers(0, 1000)
    made = st.builds(
        lambda values: Cell(len(values), sum(values), min(values), max(values)),
        st.lists(value, min_size=1, max_size=4),
    )
    count = len(FIELD_NAMES[kind])
    return st.lists(st.none() | made, min_size=count, max_size=count).map(tuple)


KEYS = (
    NODE,
    SeriesKey("node", "", "n2"),
    SeriesKey("filesystem", "n1", "/"),
    POD,
    SeriesKey("pod", "kube-system", "web-1"),
)
# Two hours, thinly: enough for shared buckets in every tier.
MINUTES = [T0 + 60 * m for m in (0, 1, 2, 9, 10, 11, 59, 60, 61, 119)]
ROWS = st.sampled_from(KEYS).flatmap(
    lambda key: st.builds(
        MinuteRow, ts=st.sampled_from(MINUTES), key=st.just(key), cells=_cells(key.kind)
    )
)
BATCHES = st.lists(st.lists(ROWS, max_size=12).map(lambda rows: Batch(rows=rows)), max_size=6)
