"""Rows and windows for tests of the stores."""

from __future__ import annotations

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, CoarseRow, MinuteRow, SeriesKey
from metrics.series.windows import Window

T0 = 1_700_000_000 // 3600 * 3600
NODE = SeriesKey("node", "", "n1")
POD = SeriesKey("pod", "default", "web-1")
CLUSTER = SeriesKey("cluster", "", "")
STREAM = "agent"


def cell(value: int, *, n: int = 1, low: int | None = None, high: int | None = None) -> Cell:
    return Cell(n, value * n, value if low is None else low, value if high is None else high)


def row(key: SeriesKey, ts: int, **fields: Cell | int | None) -> MinuteRow:
    cells = (fields.get(name) for name in FIELD_NAMES[key.kind])
    return MinuteRow(ts, key, tuple(cell(c) if isinstance(c, int) else c for c in cells))


def coarse(key: SeriesKey, tier: str, ts: int, **fields: Cell | int | None) -> CoarseRow:
    return CoarseRow(tier, ts, key, row(key, ts, **fields).cells)


def window(start: int, end: int, state: str = "done", **changes) -> Window:
    minutes = (end - start) // 60
    known = {
        "got": minutes if state == "done" else 0,
        "expected": minutes,
        "attempts": 1,
        "reason": "" if state == "done" else "tunnel_down",
        "detail": "",
        "filled_at": None,
    }
    return Window(start, end, state, **{**known, **changes})
