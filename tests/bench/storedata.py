"""Rows for the store's benchmark: seeded random walks of a fleet, as a source returns them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from uuid import UUID

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Window
from metrics.stores.writer import Batch

START = 1_700_000_000 // 86_400 * 86_400
NODES = 10
PODS = 300


class FakeCluster:
    """One cluster of 10 nodes and 300 pods whose values wander; 4 samples a minute."""

    def __init__(self, number: int) -> None:
        self.id = UUID(int=number + 1)
        self._random = random.Random(7 + number)
        self.keys = [SeriesKey("node", "", f"node-{i}") for i in range(NODES)]
        self.keys += [SeriesKey("pod", f"ns-{i % 12}", f"pod-{i:03}-x7k2q") for i in range(PODS)]
        self._infos = [
            SeriesInfo(key, f"node-{i % NODES}", {"phase": "Running"})
            for i, key in enumerate(self.keys[NODES:])
        ]
        self._levels = [
            [self._random.randrange(1, 10**8) for _ in FIELD_NAMES[key.kind]] for key in self.keys
        ]

    def batch(self, start: int, minutes: int) -> Batch:
        """Return all rows of ``minutes`` minutes from ``start``, as one pull writes them."""
        end = start + 60 * minutes
        rows = [row for ts in range(start, end, 60) for row in self._minute(ts)]
        window = Window(start, end, "done", minutes, minutes, 1, "", "", None)
        return Batch(rows, self._infos, [window], end, end)

    def _minute(self, ts: int) -> Iterator[MinuteRow]:
        wander = self._random.uniform
        for key, levels in zip(self.keys, self._levels, strict=True):
            cells = []
            for at, level in enumerate(levels):
                levels[at] = value = int(level * wander(0.97, 1.031)) + 1
                cells.append(Cell(4, 4 * value, value - value // 50, value + value // 40))
            yield MinuteRow(ts, key, tuple(cells))


def plain_rows(batch: Batch, first_sid: int) -> dict[Kind, list[tuple[int | None, ...]]]:
    """Return a batch as bare tuples (ts, sid, n, mean, low, high, ...), by kind."""
    sids: dict[SeriesKey, int] = {}
    found: dict[Kind, list[tuple[int | None, ...]]] = {"node": [], "pod": []}
    for row in batch.rows:
        sid = sids.setdefault(row.key, first_sid + len(sids))
        values: list[int | None] = [row.ts, sid, 4]
        for cell in row.cells:
            if cell is not None:
                values += [cell.total // cell.n, cell.low, cell.high]
        found[row.key.kind].append(tuple(values))
    return found
