"""A process that writes minutes to a SQLite store until it has enough or is killed.

``python -m tests.metrics.stores.writer PATH CLUSTER MINUTES`` goes on from the cluster's
watermark, one minute a transaction, and prints the watermark after each commit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import UUID

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.series.windows import Window
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch

START = 1_700_000_000 // 3600 * 3600
PODS = 20
NODE = SeriesKey("node", "", "n1")


def pod(number: int) -> SeriesKey:
    return SeriesKey("pod", "default", f"pod-{number}")


def batch(ts: int) -> Batch:
    """Return the same rows for the same minute, whoever asks."""
    value = (ts - START) // 60
    cells = {
        kind: tuple(Cell(1, value, value, value) for _ in FIELD_NAMES[kind])
        for kind in ("node", "pod")
    }
    rows = [MinuteRow(ts, NODE, cells["node"])]
    rows += [MinuteRow(ts, pod(number), cells["pod"]) for number in range(PODS)]
    ledger = Window(ts, ts + 60, "done", 1, 1, 1, "", "", None)
    return Batch(rows=rows, windows=[ledger], watermark=ts + 60, head=ts + 60)


def main() -> None:
    path, cluster, minutes = Path(sys.argv[1]), UUID(sys.argv[2]), int(sys.argv[3])
    store = SqliteStore(path)
    for _ in range(minutes):
        ts = store.position(cluster, "agent").watermark or START
        store.write(cluster, "agent", batch(ts))
        print(ts + 60, flush=True)


if __name__ == "__main__":
    main()
