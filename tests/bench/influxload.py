"""The InfluxDB 2 store under load: M5 rollups, M7 killed writers, M8 four writers and a reader.

Every process has a store of its own, as workers have.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from unittest.mock import patch

from metrics.models.influxdb_store import MetricCluster
from metrics.stores.base import MetricStore
from metrics.stores.influxdb.store import InfluxStore
from metrics.stores.influxdb.write import Writer
from metrics.stores.writer import Batch
from tests.bench import crash
from tests.bench.questions import STREAM
from tests.bench.report import Measure, Report, seconds_of
from tests.bench.storedata import START, FakeCluster
from tests.metrics.stores.influxdb.server import keep_for_ever, own_prefix, server

WRITER = "import django; django.setup(); from tests.bench.influxload import main; main()"
FLEET = 100
ROUNDS = 25
WARMING = 5
KILLS = 5
WRITERS = 4
MINUTES = 12  # of each writer, one a write
WITH, WITHOUT, OTHERS = 700, 701, 710  # numbers of clusters
_clock = [START]


def run(report: Report, area: str) -> None:
    """Measure it in buckets of its own, with an index of its own."""
    MetricCluster.objects.all().delete()
    for prefix in own_prefix():
        _rollups(report, area, prefix)
        _alternating(report, area, prefix)
        _killed(report, area, prefix)
        _crowd(report, area, prefix)


def _store(prefix: str) -> InfluxStore:
    """Return a store whose clock is the time of the rows, so that it remembers them."""
    return InfluxStore(server(), keep_for_ever, prefix=prefix, clock=lambda: _clock[0])


def _batch(fake: FakeCluster, start: int, minutes: int) -> Batch:
    """Return minutes that end now."""
    _clock[0] = start + 60 * minutes
    return fake.batch(start, minutes)


def _rollups(report: Report, area: str, prefix: str) -> None:
    """M5: what a minute's write takes longer because of the rollups, for a fleet and an hour."""
    store, whole, bare = _store(prefix), FakeCluster(WITH), FakeCluster(WITHOUT)
    longer = []
    for at in range(ROUNDS):
        start = START + 60 * at
        batch, same = _batch(whole, start, 1), _batch(bare, start, 1)
        seconds = seconds_of(lambda b=batch: store.write(whole.id, STREAM, b))
        with patch.object(Writer, "_roll_up"):
            longer.append(seconds - seconds_of(lambda b=same: store.write(bare.id, STREAM, b)))
    store.close()
    hour = FLEET * 60 * statistics.median(longer[WARMING:])
    report.add(Measure(area, "M5 rollups of a fleet-hour, 1 minute a write", "s", hour,
                       note=f"{FLEET} clusters; made and sent at write time"))  # fmt: skip


def _alternating(report: Report, area: str, prefix: str) -> None:
    """M1 with one writer of a cluster, and with two that take turns."""
    for minutes, rounds in ((1, 16), (10, 10)):
        times: list[list[float]] = []
        for count in (1, 2):
            stores = [_store(prefix) for _ in range(count)]
            fake = FakeCluster(OTHERS + 10 * minutes + count)
            rates = []
            for at in range(rounds):
                batch = _batch(fake, START + 60 * minutes * at, minutes)
                begin = time.perf_counter()
                stores[at % count].write(fake.id, STREAM, batch)
                rates.append(len(batch.rows) / (time.perf_counter() - begin))
            times.append(rates)
            for store in stores:
                store.close()
        one, two = (rates[WARMING:] for rates in times)  # they remember something by then
        name = f"M1 two processes in turn, {310 * minutes} rows a write"
        report.compare(area, name, "rows/s", two, "one process", one)


def _killed(report: Report, area: str, prefix: str) -> None:
    """M7: kill the writer, take its turn away, write once more as the next pull does, compare."""
    rng, wrong = random.Random(7), 0
    store = _store(prefix)
    for _ in range(KILLS):
        crash.live_and_die(["-c", WRITER, prefix], rng.uniform(0.1, 1.5))
        MetricCluster.objects.update(writer_until=0)  # as if its time had run out
        crash.write_round(store)
        wrong += crash.wrong_minutes(store)
    about = f"{crash.stored_minutes(store):,} minutes of {len(crash.KEYS)} series in all"
    name = f"M7 kill -9 of the writer, {KILLS} times: minutes missing, twice or wrong"
    report.add(Measure(area, name, "", wrong, note=about))
    store.close()


def _crowd(report: Report, area: str, prefix: str) -> None:
    """M8: four processes write as fast as they can, one reads."""
    store, fake = _store(prefix), FakeCluster(OTHERS)
    for at in range(6):
        store.write(fake.id, STREAM, _batch(fake, START + 600 * at, 10))
    quiet = _reads(store, fake, lambda: False, 100)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, prefix, "--cluster", str(number)])
        for number in range(OTHERS + 1, OTHERS + 1 + WRITERS)
    ]
    begin = time.perf_counter()
    busy = _reads(store, fake, lambda: any(w.poll() is None for w in writers), 1)
    seconds = time.perf_counter() - begin
    failed = sum(writer.wait() != 0 for writer in writers)
    store.close()
    report.add(Measure(area, "M8 four writers, failed", "processes", failed))
    rate = WRITERS * MINUTES * 310 / seconds
    about = "310 rows a write; wall time, with the start of the processes"
    report.add(Measure(area, "M8 four writers", "rows/s", rate, note=about))
    for name, at in (("p50", 0.5), ("p99", 0.99)):
        ours, alone = (sorted(times)[int(at * len(times))] for times in (busy, quiet))
        report.add(Measure(area, f"M8 read of a pod's hour {name} meanwhile", "ms", ours,
                           "nobody writes", alone, ours / alone))  # fmt: skip


def _reads(
    store: MetricStore, fake: FakeCluster, going: Callable[[], bool], least: int
) -> list[float]:
    """Return the milliseconds of reads of a pod's hour, for as long as ``going``."""
    times: list[float] = []
    hour, fields = (START, START + 3600), ("cpu_mc", "mem_ws")
    while len(times) < least or going():
        read = seconds_of(lambda: store.read_fields(fake.id, fake.keys[20], fields, "1m", *hour))
        times.append(1000 * read)
    return times


def main() -> None:
    """Write as one process of several: one cluster's minutes, or until the process is killed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("prefix")
    parser.add_argument("--cluster", type=int)
    options = parser.parse_args()
    store = _store(options.prefix)
    if options.cluster is None:
        crash.write_for_ever(store)
    fake = FakeCluster(options.cluster)
    for at in range(MINUTES):
        store.write(fake.id, STREAM, _batch(fake, START + 60 * at, 1))
    store.close()
