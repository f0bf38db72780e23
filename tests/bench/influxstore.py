"""The InfluxDB 2 store: M1, M2, M4, M5, M7 to M10, and whether both stores hold the same numbers.

Only with a server: ``OPSCENTER_TEST_INFLUXDB_URL``, ``_ORG`` and ``_TOKEN`` name one. Its buckets
are made for the run and dropped afterwards. The baseline is the SQLite store with the same rows.
How many bytes it takes only its own host can tell; ``size`` has InfluxDB 1.x's for the same data.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from django.test import override_settings

from clusters.models import Cluster
from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.stores import close_stores
from metrics.stores.base import MetricStore
from metrics.stores.influxdb.store import InfluxStore
from metrics.stores.sqlite.store import SqliteStore
from tests.bench import influxload, recovery
from tests.bench.questions import DAY, STREAM, batches, questions
from tests.bench.report import Measure, Report, seconds_of
from tests.bench.storedata import START, FakeCluster
from tests.factories import ClusterFactory
from tests.metrics.stores.influxdb.server import keep_for_ever, own_prefix, server

AREA = "influxdb"
CLUSTERS = 2
HISTORY_MINUTES = 360
ROUNDS = 5
OUTAGE_MINUTES = 60
AGAIN = 900  # number of the cluster that is written twice
_URL = "OPSCENTER_TEST_INFLUXDB_URL"


def run(report: Report, scale: float = 1.0) -> None:
    """Measure it, or say why not."""
    if not os.environ.get(_URL):
        report.leave_out(AREA, "M1 to M10 of this store", f"no server given ({_URL})")
        return
    fakes = [FakeCluster(number) for number in range(max(2, round(CLUSTERS * scale)))]
    for fake in (*fakes, FakeCluster(AGAIN)):  # its watermarks are in Django's database
        ClusterFactory(id=fake.id, name=f"influx-{fake.id.int}")
    try:
        clock = [0]
        with tempfile.TemporaryDirectory() as directory, _store(clock) as influx:
            sqlite = SqliteStore(Path(directory) / "metrics.sqlite3")
            _ingest(report, influx, sqlite, fakes, clock)
            _again(report, influx)
            _same_numbers(report, influx, sqlite, fakes)
            _queries(report, influx, sqlite, fakes)
            sqlite.close()
        influxload.run(report, AREA)
        _whole_way(report, scale)
        report.leave_out(AREA, "M3 size", "its files are its own host's; see InfluxDB 1.x in size")
        report.leave_out(AREA, "M6 sealing", "InfluxDB compacts by itself")
    finally:
        Cluster.objects.filter(name__startswith="influx-").delete()


@contextlib.contextmanager
def _store(clock: list[int]) -> Iterator[MetricStore]:
    """Yield a store that takes ``clock[0]`` for the time."""
    for prefix in own_prefix():
        store = InfluxStore(server(), keep_for_ever, prefix=prefix, clock=lambda: clock[0])
        yield store
        store.close()


def _ingest(
    report: Report,
    influx: MetricStore,
    sqlite: MetricStore,
    fakes: list[FakeCluster],
    clock: list[int],
) -> None:
    """M1: every batch at its own time, as live pulls bring them."""
    ours, theirs = [], []
    for fake, start in batches(fakes):
        clock[0] = start + 600
        batch = fake.batch(start, 10)
        rows = len(batch.rows)
        for store, rates in ((influx, ours), (sqlite, theirs)):
            begin = time.perf_counter()
            store.write(fake.id, STREAM, batch)
            rates.append(rows / (time.perf_counter() - begin))
    report.compare(AREA, f"M1 ingest, {rows} rows a write, with rollups", "rows/s", ours,
                   "SQLite store", theirs)  # fmt: skip


def _whole_way(report: Report, scale: float) -> None:
    """Cut a tunnel for an hour, then bring a past, while this store is the installation's."""
    for prefix in own_prefix():
        given = server()
        with override_settings(
            METRICS_STORE="influxdb", INFLUXDB_URL=given.url, INFLUXDB_ORG=given.org,
            INFLUXDB_TOKEN=given.token, INFLUXDB_BUCKET_PREFIX=prefix,
        ):  # fmt: skip
            recovery.outage(report, OUTAGE_MINUTES, AREA)
            recovery.history(report, round(HISTORY_MINUTES * scale), AREA)
            close_stores()


def _counts(store: MetricStore, fake: FakeCluster, minutes: int = START) -> list[tuple[int, int]]:
    """Return counts and checksums of a day's tables; of its minutes from ``minutes`` on."""
    return [
        store.counts(fake.id, kind, tier, minutes if tier == "1m" else START, START + DAY)
        for kind in FIELD_NAMES
        for tier in TIERS
    ]


def _again(report: Report, influx: MetricStore) -> None:
    """Write ten windows of one cluster, then again in another order; nothing may change."""
    fake = FakeCluster(AGAIN)
    made = [fake.batch(START + 600 * at, 10) for at in range(10)]
    for batch in made:
        influx.write(fake.id, STREAM, batch)
    before = _counts(influx, fake)
    for batch in reversed(made):
        influx.write(fake.id, STREAM, batch)
    equal = before == _counts(influx, fake)
    report.add(Measure(AREA, "M2 the same 10 windows again", "equal", float(equal)))


def _same_numbers(
    report: Report, influx: MetricStore, sqlite: MetricStore, fakes: list[FakeCluster]
) -> None:
    late = START + DAY - 7200
    ours, theirs = (_counts(store, fakes[0], late) for store in (influx, sqlite))
    different = sum(a != b for a, b in zip(ours, theirs, strict=True))
    report.add(Measure(AREA, "tables in which the stores differ", "", different,
                       note="counts and checksums of a day's rollups, 2 h of minutes"))  # fmt: skip


def _queries(
    report: Report, influx: MetricStore, sqlite: MetricStore, fakes: list[FakeCluster]
) -> None:
    other = questions(sqlite, fakes)
    for name, ask in questions(influx, fakes).items():
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(1000 * seconds_of(ask))
            theirs.append(1000 * seconds_of(other[name]))
        report.compare(AREA, f"M4 {name}", "ms", ours, "SQLite store", theirs)
