"""Write one batch to the InfluxDB store: minutes, cluster minutes, rollups, then the index.

The arithmetic is :mod:`metrics.series.rollups`, here and not in InfluxDB, so that both stores have
the same integers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind
from metrics.series.rollups import (
    bucket_start,
    cluster_bucket,
    cluster_minute,
    laid_over,
    merge_rows,
)
from metrics.series.rows import CoarseRow, MinuteRow, SeriesKey
from metrics.stores.errors import StoreError
from metrics.stores.influxdb.merge import MergeBuffer
from metrics.stores.influxdb.rows import Cells, coarse_cells, minute_cells
from metrics.stores.influxdb.series import Session, json_text
from metrics.stores.writer import Batch

CLUSTER_KEY = SeriesKey("cluster", "", "")

_Coarse = tuple[CoarseRow, int, Cells]
Touched = dict[Kind, dict[SeriesKey, set[int]]]
"""Kind -> series -> starts of the buckets that a batch has touched."""


def check(batch: Batch) -> dict[SeriesKey, int]:
    """Return the time of each key's newest row; check the batch.

    Raises:
        StoreError: if the batch is malformed.
    """
    newest: dict[SeriesKey, int] = {}
    for row in batch.rows:
        _check_row(row, "1m")
        newest[row.key] = max(row.ts, newest.get(row.key, 0))
    for coarse in batch.coarse:
        if coarse.tier == "1m" or coarse.tier not in TIERS:
            msg = f"a batch may not hold coarse rows of tier {coarse.tier}"
            raise StoreError(msg)
        _check_row(coarse, coarse.tier)
    coarse_newest: dict[SeriesKey, int] = {}
    for coarse in batch.coarse:
        coarse_newest[coarse.key] = max(coarse.ts, coarse_newest.get(coarse.key, 0))
    return coarse_newest | newest


def _check_row(row: MinuteRow | CoarseRow, tier: str) -> None:
    kind = row.key.kind
    if kind == "cluster" or row.ts % TIERS[tier] or row.ts < 0:
        msg = f"a batch may not hold {kind} rows of {tier} at {row.ts}"
        raise StoreError(msg)
    if len(row.cells) != len(FIELD_NAMES[kind]):
        msg = f"a {kind} row has {len(row.cells)} cells"
        raise StoreError(msg)


class Writer:
    """The steps of one batch; the caller locks the cluster and saves the session afterwards."""

    def __init__(self, buffer: MergeBuffer, session: Session) -> None:
        self._merge_buffer = buffer
        self._session = session
        self.refused = 0
        self.skipped = 0

    def catch_up(self) -> None:
        """Recompute the wider buckets of minutes that other processes wrote meanwhile."""
        for key, starts in self._merge_buffer.catch_up().items():
            self._roll_up(key, "10m", starts)
            self._roll_up(key, "1h", starts)
        self._merge_buffer.remember()

    def infos(self, batch: Batch, newest: dict[SeriesKey, int]) -> None:
        """Set node and attributes of series that have rows in the batch."""
        for info in batch.infos:
            if info.key in newest and self._session.seen(info.key, newest[info.key]):
                self._session.inform(info.key, newest[info.key], info.node, json_text(info.attrs))

    def minutes(
        self, rows: Iterable[MinuteRow], batch: Batch, newest: dict[SeriesKey, int]
    ) -> None:
        """Put minutes, the cluster's minutes and their wider buckets into the merge buffer."""
        usable = []
        for row in rows:
            if self._session.seen(row.key, row.ts):
                usable.append(row)
            else:
                self.skipped += 1
        self.infos(batch, newest)
        self._load(usable)
        touched: Touched = defaultdict(dict)
        nodes_at: set[int] = set()
        for row in usable:
            n, cells, refused = minute_cells(row)
            self.refused += refused
            self._merge_buffer.put("1m", row.key, row.ts, n, cells)
            self._session.last(row.key, row.ts, n, [c.total if c else None for c in cells])
            touched[row.key.kind].setdefault(row.key, set()).add(row.ts)
            if row.key.kind == "node":
                nodes_at.add(row.ts)
        if nodes_at and self._session.seen(CLUSTER_KEY, min(nodes_at)):
            for ts in sorted(nodes_at):
                self._cluster_minute(ts)
            touched["cluster"][CLUSTER_KEY] = nodes_at
        for series in touched.values():
            for key, starts in series.items():
                self._roll_up(key, "10m", starts)
                self._roll_up(key, "1h", starts)

    def coarse(self, rows: Iterable[CoarseRow]) -> None:
        """Put wider buckets of sources, the cluster's, and hours into the merge buffer."""
        by_tier: dict[str, list[_Coarse]] = {"10m": [], "1h": []}
        for row in rows:
            if not self._session.seen(row.key, row.ts):
                self.skipped += 1
                continue
            n, cells, refused = coarse_cells(row)
            self.refused += refused
            if n:
                by_tier[row.tier].append((row, n, cells))
        self._load_coarse([row for some in by_tier.values() for row, *_ in some])
        # The 10-minute buckets first: hours are computed from them.
        for tier, some in by_tier.items():
            self._coarse_tier(tier, some)

    def _coarse_tier(self, tier: str, rows: list[_Coarse]) -> None:
        touched: dict[SeriesKey, set[int]] = defaultdict(set)
        nodes_at: set[int] = set()
        for row, n, cells in rows:
            known = self._merge_buffer.get(tier, row.key, row.ts)
            whole = cells if known is None else laid_over(cells, known[1])
            self._merge_buffer.put(tier, row.key, row.ts, n, whole)
            self._session.last(row.key, row.ts, -1, [])
            touched[row.key].add(row.ts)
            if row.key.kind == "node":
                nodes_at.add(row.ts)
        if nodes_at and self._session.seen(CLUSTER_KEY, min(nodes_at)):
            for ts in nodes_at:
                self._cluster_bucket(tier, ts)
            self._session.last(CLUSTER_KEY, max(nodes_at), -1, [])
            touched[CLUSTER_KEY] = nodes_at
        if tier == "10m":
            for key, starts in touched.items():
                self._roll_up(key, "1h", starts)

    def _load(self, rows: list[MinuteRow]) -> None:
        """Read all stored rows that a batch may change or that count in its rollups."""
        buckets: dict[Kind, set[int]] = defaultdict(set)
        for row in rows:
            buckets[row.key.kind].add(bucket_start(row.ts, TIERS["10m"]))
        if "node" in buckets:
            buckets["cluster"] = buckets["node"]
        for kinds, starts in _alike(buckets):
            self._merge_buffer.load("1m", kinds, starts, TIERS["10m"])
            self._load_hours(kinds, starts)

    def _load_coarse(self, rows: list[CoarseRow]) -> None:
        starts: dict[Kind, set[int]] = defaultdict(set)
        for row in rows:
            starts[row.key.kind].add(row.ts)
        if "node" in starts:
            starts["cluster"] = starts["node"]
        for kinds, found in _alike(starts):
            self._load_hours(kinds, found)

    def _load_hours(self, kinds: list[Kind], starts: Iterable[int]) -> None:
        hours = {bucket_start(ts, TIERS["1h"]) for ts in starts}
        for tier in ("10m", "1h"):
            self._merge_buffer.load(tier, kinds, hours, TIERS["1h"])

    def _cluster_minute(self, ts: int) -> None:
        nodes = [cells for _, cells in self._merge_buffer.rows_at("1m", "node", ts)]
        cells = cluster_minute(nodes)
        self._merge_buffer.put("1m", CLUSTER_KEY, ts, len(nodes), cells)
        self._session.last(CLUSTER_KEY, ts, len(nodes), [c.total if c else None for c in cells])

    def _cluster_bucket(self, tier: str, ts: int) -> None:
        rows = self._merge_buffer.rows_at(tier, "node", ts)
        cells = cluster_bucket([cells for _, cells in rows])
        self._merge_buffer.put(tier, CLUSTER_KEY, ts, max(n for n, _ in rows), cells)

    def _roll_up(self, key: SeriesKey, tier: str, starts: Iterable[int]) -> None:
        """Compute the buckets that contain these times from all rows of the finer tier."""
        finer = "1m" if tier == "10m" else "10m"
        step, width = TIERS[finer], TIERS[tier]
        for start in {bucket_start(ts, width) for ts in starts}:
            found = (
                self._merge_buffer.get(finer, key, ts) for ts in range(start, start + width, step)
            )
            rows = [row for row in found if row is not None]
            n = len(rows) if tier == "10m" else sum(n for n, _ in rows)
            if rows:
                self._merge_buffer.put(
                    tier, key, start, n, merge_rows([cells for _, cells in rows])
                )


def _alike(buckets: dict[Kind, set[int]]) -> list[tuple[list[Kind], set[int]]]:
    """Group kinds with the same times, so that one query reads them."""
    found: list[tuple[list[Kind], set[int]]] = []
    for kind, starts in buckets.items():
        for kinds, same in found:
            if same == starts:
                kinds.append(kind)
                break
        else:
            found.append(([kind], starts))
    return found
