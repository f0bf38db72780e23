"""M7: ``kill -9`` of a process that writes, fifteen times; what must hold is checked each time.

The writer continues from the store's watermark, as pulls do, and closes hours on the way,
so that it also dies while they are sealed. After each death the file must be sound, the watermark
must be the end of the newest minute, and every minute before it must be there, once, with the
values that belong to it.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.series.windows import Window
from metrics.stores.base import MetricStore
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.bench.report import Measure, Report

AREA = "crash"
KILLS = 15
STREAM = "agent"
START = 1_700_000_000 // 3600 * 3600
CLUSTERS = tuple(UUID(int=number) for number in (1, 2, 3))
KEYS = (
    *(SeriesKey("node", "", f"node-{at}") for at in range(3)),
    *(SeriesKey("pod", "default", f"pod-{at}") for at in range(40)),
)
_STEP = 600


def run(report: Report) -> None:
    """Kill it again and again."""
    rng = random.Random(7)
    damaged = wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "metrics.sqlite3"
        for _ in range(KILLS):
            live_and_die(["-m", "tests.bench.crash", str(path)], rng.uniform(0.1, 0.6))
            store = SqliteStore(path)
            damaged += store.check() != "ok"
            wrong += wrong_minutes(store)
            minutes = stored_minutes(store)
            store.close()
    name = f"M7 kill -9 of the writer, {KILLS} times"
    about = f"{minutes:,} minutes of {len(KEYS)} series were written in all"
    report.add(Measure(AREA, f"{name}: damaged files", "", damaged, note=about))
    report.add(Measure(AREA, f"{name}: minutes missing, twice or wrong", "", wrong))


def live_and_die(arguments: list[str], seconds: float) -> None:
    """Run Python with these arguments, a writer, for a while after its first write; kill it."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(seconds)
        writer.kill()


def wrong_minutes(store: MetricStore) -> int:
    """Return how many minutes of all clusters are missing, twice or wrong."""
    return sum(_wrong_minutes(store, cluster) for cluster in CLUSTERS)


def stored_minutes(store: MetricStore) -> int:
    """Return how many minutes of all clusters are before their watermarks."""
    return sum(_stored(store, cluster) for cluster in CLUSTERS)


def _wrong_minutes(store: MetricStore, cluster: UUID) -> int:
    """Return how many minutes are not what the writer wrote up to the watermark, or are beyond."""
    reached = store.position(cluster, STREAM).watermark or START
    wanted = list(range(START, reached, 60))
    wrong = 0
    for key in (*KEYS, SeriesKey("cluster", "", "")):
        got = store.read(cluster, key, "cpu_mc", "1m", START, 1 << 40)
        factor = 3 if key.kind == "cluster" else 1  # three nodes
        right = [factor * _value(ts) for ts in wanted]
        if got.t != wanted or got.total != right:
            wrong += len(set(wanted) ^ set(got.t)) or 1
    lines = store.windows(cluster, STREAM, 0, 1 << 40)
    return wrong + ([line.start for line in lines] != list(range(START, reached, _STEP)))


def _stored(store: MetricStore, cluster: UUID) -> int:
    return ((store.position(cluster, STREAM).watermark or START) - START) // 60


def _value(ts: int) -> int:
    return (ts - START) // 60 * 3 + 1


def _batch(start: int) -> Batch:
    rows = []
    for ts in range(start, start + _STEP, 60):
        value = _value(ts)
        cell = Cell(1, value, value, value)
        rows += [MinuteRow(ts, key, (cell,) * len(FIELD_NAMES[key.kind])) for key in KEYS]
    end = start + _STEP
    window = Window(start, end, "done", 10, 10, 1, "", "", None)
    return Batch(rows, (), [window], end, end)


def write_for_ever(store: MetricStore) -> None:
    """Write until somebody ends the process."""
    while True:
        write_round(store)
        print("a round", flush=True)


def write_round(store: MetricStore) -> None:
    """Write ten minutes of each cluster, from where the store is."""
    for cluster in CLUSTERS:
        start = store.position(cluster, STREAM).watermark or START
        store.write(cluster, STREAM, _batch(start))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    write_for_ever(SqliteStore(parser.parse_args().path))
