"""The SQLite store beside bare ``sqlite3``; alone: ``python -m tests.bench.store [--json FILE]``.

M1 ingest, M2 idempotency, M4 queries, hot and sealed, M5 rollups, M8 many processes. The floor is
``executemany`` of ready tuples into tables of the same columns and key, with the same durability,
and nothing else: no names, no cluster sums, no rollups, no last values, no ledger.
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from metrics.stores.sqlite import schema, write
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.bench.questions import (
    CLUSTER,
    LATEST,
    NEWEST,
    POD,
    STREAM,
    STRIP,
    TOP_ALL,
    TOP_ONE,
    TOP_RANGE,
    batches,
    questions,
)
from tests.bench.report import Measure, Report, seconds_of
from tests.bench.storedata import START, FakeCluster, plain_rows

AREA = "store"
FLOOR = "bare executemany"
CLUSTERS = 100  # of the fleet of M4
ONE_POD = (
    "WITH RECURSIVE w(t) AS (SELECT ? UNION ALL SELECT t + 60 FROM w WHERE t < ?)"
    " SELECT ts, cpu_mc, mem_ws FROM w CROSS JOIN pod_1m ON ts = t AND sid = ?"
)
ONE_NODE = (
    "WITH RECURSIVE w(t) AS (SELECT ? UNION ALL SELECT t + 60 FROM w WHERE t < ?)"
    " SELECT node_1m.* FROM w CROSS JOIN node_1m ON ts = t AND sid = ?"
)
ALL_PODS = (
    "WITH RECURSIVE w(t) AS (SELECT ? UNION ALL SELECT t + 60 FROM w WHERE t < ?)"
    " SELECT sid, ts / 600, sum(cpu_mc) FROM w CROSS JOIN pod_1m ON ts = t"
    " AND sid BETWEEN ? AND ? GROUP BY 1, 2"
)

TOP_PODS = (
    "SELECT sid, sum(cpu_mc), count(cpu_mc) FROM pod_1m WHERE ts >= ? GROUP BY sid"
    " ORDER BY sum(cpu_mc) * 1.0 / count(cpu_mc) DESC LIMIT 20"
)


def run(report: Report, clusters: int = CLUSTERS, where: Path | None = None) -> None:
    """Measure all of it, in files that are thrown away.

    Args:
        report: receives the figures.
        clusters: number of clusters of the queried fleet.
        where: directory of the files, on a disk, not tmpfs; None for the system's own.
    """
    with tempfile.TemporaryDirectory(dir=where) as name:
        directory = Path(name)
        ingest(report, directory, minutes=1, rounds=120)
        ingest(report, directory, minutes=10, rounds=18)
        idempotency(report, directory)
        queries(report, directory, clusters)
        concurrency(report, directory, minutes=100)


class Floor:
    """A bare SQLite file with the store's columns, key and durability."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA wal_autocheckpoint = 4000")
        for kind in ("node", "pod"):
            columns = ", ".join(f"{c} INTEGER" for c in schema.minute_columns(kind))
            self.connection.execute(
                f"CREATE TABLE {kind}_1m(ts INTEGER, sid INTEGER, n INTEGER, {columns},"
                " PRIMARY KEY(ts, sid)) WITHOUT ROWID"
            )

    def write(self, rows: dict) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for kind, values in rows.items():
            places = ",".join("?" * len(values[0]))
            self.connection.executemany(
                f"INSERT OR REPLACE INTO {kind}_1m VALUES({places})",
                values,
            )
        self.connection.execute("COMMIT")


def ingest(report: Report, directory: Path, minutes: int, rounds: int) -> None:
    """M1: rows a second of one process, one cluster's pull a transaction."""
    fake = FakeCluster(0)
    batches = [fake.batch(START + 60 * minutes * i, minutes) for i in range(rounds)]
    plain = [plain_rows(batch, 1 << 24) for batch in batches]
    floor = Floor(directory / f"floor-{minutes}.sqlite3")
    whole = SqliteStore(directory / f"whole-{minutes}.sqlite3")
    without = SqliteStore(directory / f"without-{minutes}.sqlite3")
    times: dict[str, list[float]] = {"floor": [], "whole": [], "without": []}
    roll_up, spent = write._roll_up, [0.0]

    def timed(*arguments: Any) -> None:
        spent[0] += seconds_of(lambda: roll_up(*arguments))

    for batch, rows in zip(batches, plain, strict=True):
        times["floor"].append(seconds_of(lambda rows=rows: floor.write(rows)))
        with patch.object(write, "_roll_up", timed):
            times["whole"].append(seconds_of(lambda b=batch: whole.write(fake.id, STREAM, b)))
        with patch.object(write, "_roll_up"):
            times["without"].append(seconds_of(lambda b=batch: without.write(fake.id, STREAM, b)))
    count = len(batches[0].rows)
    for name, key in (("with rollups", "whole"), ("without rollups", "without")):
        report.compare(
            AREA,
            f"M1 ingest, {count} rows a write, {name}",
            "rows/s",
            [count / seconds for seconds in times[key]],
            FLOOR,
            [count / seconds for seconds in times["floor"]],
            f"write p50 {1000 * statistics.median(times[key]):.1f} ms",
        )
    hour = 60 / (minutes * rounds) * CLUSTERS * spent[0]
    report.add(Measure(AREA, f"M5 rollups of a fleet-hour, {minutes} minutes a write", "s", hour,
                       note=f"1m to 10m to 1h, {CLUSTERS} clusters, at write time"))  # fmt: skip
    cells = rounds * sum(cell is not None for row in batches[0].rows for cell in row.cells)
    ours, bare = _bytes(directory / f"whole-{minutes}.sqlite3"), _bytes(floor.path)
    report.add(
        Measure(AREA, f"M3 size, {count} rows a write", "B/value", ours / cells, FLOOR,
                bare / cells, ours / bare, "all tiers and last values, against minutes alone")
    )  # fmt: skip
    whole.close()
    without.close()
    floor.connection.close()


def idempotency(report: Report, directory: Path) -> None:
    """M2: ten windows again, in another order: counts and checksum must be equal."""
    path = directory / "again.sqlite3"
    fake, store = FakeCluster(0), SqliteStore(path)
    batches = [fake.batch(START + 600 * i, 10) for i in range(10)]
    for batch in batches:
        store.write(fake.id, STREAM, batch)
    before = _checksum(path)
    for batch in reversed(batches):
        store.write(fake.id, STREAM, batch)
    equal = before == _checksum(path)
    report.add(Measure(AREA, "M2 the same 10 windows again", "equal", float(equal),
                       note=f"checksum {before[:12]}"))  # fmt: skip
    store.close()


def _bytes(path: Path) -> int:
    """Return the size of a file with its log written back."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path.stat().st_size


def _checksum(path: Path) -> str:
    """Return a digest of all rows of all tables."""
    connection = sqlite3.connect(path)
    digest = hashlib.sha256()
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    for (table,) in tables.fetchall():
        for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):  # noqa: S608
            digest.update(repr(row).encode())
    connection.close()
    return digest.hexdigest()


def queries(report: Report, directory: Path, clusters: int) -> None:
    """M4: what pages ask, over a fleet with 20 minutes and one cluster with a day."""
    floor = Floor(directory / "floor-m4.sqlite3")
    store = SqliteStore(directory / "m4.sqlite3")
    fakes = [FakeCluster(number) for number in range(clusters)]
    numbers = {fake.id: number for number, fake in enumerate(fakes, 1)}
    for fake, start in batches(fakes):
        batch = fake.batch(start, 10)
        store.write(fake.id, STREAM, batch)
        floor.write(plain_rows(batch, numbers[fake.id] << 24))
    day, cluster = (START, NEWEST), (1 << 24, 2 << 24)
    bare: dict[str, tuple[str, tuple[int, ...]]] = {
        LATEST: ("SELECT * FROM node_1m WHERE ts = ?", (NEWEST,)),
        POD: (ONE_POD, (*day, (1 << 24) + 20)),
        CLUSTER: (ONE_NODE, (*day, 1 << 24)),
        TOP_ONE: (
            "SELECT sid, cpu_mc FROM pod_1m WHERE ts = ? AND sid BETWEEN ? AND ?"
            " ORDER BY cpu_mc DESC LIMIT 20",
            (NEWEST, *cluster),
        ),
        TOP_ALL: (
            "SELECT sid, cpu_mc FROM pod_1m WHERE ts = ? ORDER BY cpu_mc DESC LIMIT 20", (NEWEST,)
        ),
        TOP_RANGE: (TOP_PODS, (NEWEST - 840,)),
        STRIP: (ALL_PODS, (*day, *cluster)),
    }  # fmt: skip
    asked = questions(store, fakes)
    answers = {name: ask() for name, ask in asked.items()}
    for state in ("hot", "sealed"):
        if state == "sealed":
            store.maintain(NEWEST + 40 * 86_400)
        for name, ask in asked.items():
            if ask() != answers[name]:
                msg = f"{name}: the answer changed when it was sealed"
                raise RuntimeError(msg)
            pairs = [
                (
                    1000 * seconds_of(ask),
                    1000 * seconds_of(lambda n=name: floor.connection.execute(*bare[n]).fetchall()),
                )
                for _ in range(9)
            ]
            mine, bare_ms = zip(*pairs, strict=True)
            report.compare(AREA, f"M4 {state}: {name}", "ms", mine, "bare SQL", bare_ms)
    store.close()
    floor.connection.close()


def concurrency(report: Report, directory: Path, minutes: int) -> None:
    """M8: four processes write as fast as they can, one reads: errors, and how long reads take."""
    path = directory / "m8.sqlite3"
    store, fake = SqliteStore(path), FakeCluster(99)
    store.write(fake.id, STREAM, fake.batch(START, 10))
    quiet = _reads(store, fake, lambda: False, 200)
    module = [sys.executable, "-m", "tests.bench.store"]
    writers = [
        subprocess.Popen(
            [*module, "--writer", str(path), str(number), str(minutes)],
            stderr=subprocess.PIPE,
        )
        for number in range(4)
    ]
    begin = time.perf_counter()
    busy = _reads(store, fake, lambda: any(w.poll() is None for w in writers), 1)
    seconds = time.perf_counter() - begin
    failed = sum(writer.wait() != 0 for writer in writers)
    report.add(Measure(AREA, "M8 four writers, failed", "processes", failed))
    report.add(Measure(AREA, "M8 four writers", "rows/s", 4 * minutes * 310 / seconds,
                       note="wall time, with the start of the processes"))  # fmt: skip
    for name, at in (("p50", 0.5), ("p99", 0.99)):
        ours, alone = (sorted(times)[int(at * len(times))] for times in (busy, quiet))
        report.add(Measure(AREA, f"M8 read {name} meanwhile", "ms", ours, "nobody writes", alone,
                           ours / alone))  # fmt: skip
    store.close()


def _reads(
    store: SqliteStore, fake: FakeCluster, going: Callable[[], bool], least: int
) -> list[float]:
    """Return the milliseconds of reads of a cluster's pods, for as long as ``going``."""
    times: list[float] = []
    while len(times) < least or going():
        times.append(1000 * seconds_of(lambda: store.last(fake.id, "pod")))
    return times


def write_minutes(path: Path, number: int, minutes: int) -> None:
    """Write one cluster's minutes, one a transaction (a writer of M8)."""
    store, fake = SqliteStore(path), FakeCluster(number)
    batches: list[Batch] = [fake.batch(START + 60 * i, 1) for i in range(minutes)]
    for batch in batches:
        store.write(fake.id, STREAM, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--clusters", type=int, default=CLUSTERS, help="of the fleet of M4")
    parser.add_argument("--directory", type=Path, help="where the files go; a disk, not tmpfs")
    parser.add_argument("--writer", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        write_minutes(Path(options.writer[0]), *map(int, options.writer[1:]))
        return
    report = Report()
    run(report, options.clusters, options.directory)
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
