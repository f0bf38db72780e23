"""M3 and M12: bytes per value, beside Prometheus, VictoriaMetrics and InfluxDB 1.x.

All of them get the same fleet of :mod:`tests.bench.workload` in the same run. A value is one
field of one series and minute, as the source sent it. Ours also stores what it derives from them:
the cluster's sums, 10-minute and hourly rollups, newest values, ledger and names. They are reported
separately: "minutes" is what a peer holds too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell
from metrics.stores.base import MetricStore
from metrics.stores.copier import StoredRow
from metrics.stores.sqlite.seal import ABANDONED
from metrics.stores.sqlite.sealed import SPANS
from metrics.stores.sqlite.store import SqliteStore
from tests.bench import peers
from tests.bench.processes import MissingServerError
from tests.bench.report import Measure, Report, cpu_seconds_of, seconds_of
from tests.bench.sqlitefile import chunk_bytes, live_bytes
from tests.bench.workload import Cluster, make_fleet

AREA = "size"
CLUSTERS = 10  # a tenth of the fleet
MINUTES = 240
FLEET = 100  # clusters
_ALL_SETTLED = 40 * 86_400  # so much later every span of every tier is over
_BLOCK = 7200  # Prometheus cuts its blocks there: a start within one would make them smaller
_PEERS = {
    "Prometheus": peers.prometheus,
    "VictoriaMetrics": peers.victoriametrics,
    "InfluxDB 1.x": peers.influxdb,
}


def run(report: Report, scale: float = 1.0) -> None:
    """Load the fleet into everything, one after the other."""
    start = int(time.time()) // _BLOCK * _BLOCK - MINUTES * 60
    fleet = list(make_fleet(max(1, round(CLUSTERS * scale)), MINUTES, start))
    given = sum(cluster.values for cluster in fleet)
    series = sum(len(cluster.series) for cluster in fleet)
    about = f"{given:,} values of {series:,} series, {MINUTES} minutes"
    with tempfile.TemporaryDirectory() as directory:
        ours = _ours(report, fleet, given, Path(directory), about)
    for name, load in _PEERS.items():
        with tempfile.TemporaryDirectory() as directory:
            try:
                found = load(fleet, Path(directory))
            except MissingServerError as exc:
                report.leave_out(AREA, f"M12 {name}", str(exc))
                continue
        _report(report, found, given, ours)


def _ours(
    report: Report, fleet: Sequence[Cluster], given: int, directory: Path, about: str
) -> dict[str, float]:
    """Measure the SQLite store, before and after sealing; return its bytes per value by state."""
    path = directory / "metrics.sqlite3"
    store = SqliteStore(path)
    wall, cpu = cpu_seconds_of(lambda: write_fleet(store, fleet))
    report.add(Measure(AREA, "SQLite store, load", "values/s", given / wall,
                       note=f"10 minutes a write, rollups included; {about}"))  # fmt: skip
    report.add(Measure(AREA, "SQLite store, load, CPU", "s/million", 1e6 * cpu / given,
                       note="with what it takes to make the rows"))  # fmt: skip
    minutes = _minute_values(fleet)
    hot = live_bytes(path)
    found = {"hot": hot.get("1m", 0) / minutes, "hot, everything": sum(hot.values()) / given}
    _seal(report, store, fleet, directory)
    sealed, everything = chunk_bytes(path), sum(live_bytes(path).values())
    found["sealed"] = sealed["1m"] / minutes
    found["sealed and names"] = (everything - sealed["10m"] - sealed["1h"]) / given
    found["sealed, everything"] = everything / given
    for name, value in found.items():
        report.add(Measure(AREA, f"M3 SQLite store, {name}", "B/value", value))
    for tier in ("10m", "1h"):
        width = TIERS[tier] // 60
        cells = minutes / width
        report.add(Measure(AREA, f"M3 SQLite store, sealed {tier} cells", "B/cell",
                           sealed[tier] / cells, note="n, sum, min and max each"))  # fmt: skip
    hours = fleet[0].minutes // 60
    seconds = seconds_of(lambda: _expire(store, fleet, fleet[0].start + 3600 * hours))
    report.add(Measure(AREA, "M6 expire a sealed fleet-hour", "ms",
                       1000 * seconds * FLEET / len(fleet) / hours,
                       note=f"minutes, all kinds, {hours} hours a call"))  # fmt: skip
    store.close()
    return found


def _seal(report: Report, store: SqliteStore, fleet: Sequence[Cluster], directory: Path) -> None:
    """Seal everything; report what an hour of the whole fleet costs.

    That is its minutes and its share of the longer spans of the wider tiers, which the few hours
    of this fleet fill in part only: a store beside it has one cluster's in full.
    """
    end = fleet[0].start + 60 * fleet[0].minutes
    wall, cpu = cpu_seconds_of(lambda: store.maintain(end + ABANDONED))
    hours = fleet[0].minutes / 60 * len(fleet) / FLEET
    costs = {"1m": (wall / hours, cpu / hours)}
    series = sum(len(cluster.series) for cluster in fleet) / len(fleet) * FLEET
    beside = SqliteStore(directory / "beside.sqlite3")
    for tier in ("10m", "1h"):
        given = _fill_span(beside, tier)
        wall, cpu = cpu_seconds_of(lambda: beside.maintain(int(time.time()) + _ALL_SETTLED))
        share = series / given * 3600 / SPANS[tier]
        costs[tier] = (wall * share, cpu * share)
    beside.close()
    wall, cpu = (sum(cost[at] for cost in costs.values()) for at in (0, 1))
    about = ", ".join(f"{tier} {cost[1]:.2f}" for tier, cost in costs.items())
    report.add(Measure(AREA, "M6 seal a fleet-hour", "s", wall, note=f"of {FLEET} clusters"))
    report.add(Measure(AREA, "M6 seal a fleet-hour, CPU", "s", cpu, note=about))
    store.maintain(int(time.time()) + _ALL_SETTLED)


def _fill_span(store: SqliteStore, tier: str) -> int:
    """Load one span of a wider tier for every series of a cluster; return how many those are."""
    width, minutes = TIERS[tier], TIERS[tier] // 60
    buckets = SPANS[tier] // width
    (cluster,) = make_fleet(1, buckets, 0)
    for one in cluster.series:
        store.load(cluster.id, one.key.kind, tier, (
            StoredRow(at * width, one.key, minutes, tuple(
                None if column is None else _bucket(minutes, column[at]) for column in one.columns
            ))
            for at in range(buckets)
        ))  # fmt: skip
    return len(cluster.series)


def _bucket(minutes: int, mean: int) -> Cell:
    """Return a bucket of minutes that were about a mean."""
    about = 1 + mean // 8
    return Cell(minutes, minutes * mean + mean % minutes, max(0, mean - about), mean + about)


def _expire(store: SqliteStore, fleet: Sequence[Cluster], before: int) -> None:
    for cluster in fleet:
        for kind in FIELD_NAMES:
            store.expire(cluster.id, kind, "1m", before)


def write_fleet(store: MetricStore, fleet: Sequence[Cluster], minutes: int = 10) -> None:
    """Write all of a fleet, some minutes of a cluster at a time, as pulls do."""
    for first in range(0, fleet[0].minutes, minutes):
        for cluster in fleet:
            store.write(cluster.id, "agent", cluster.batch(first, minutes))


def _minute_values(fleet: Sequence[Cluster]) -> int:
    """Return how many values the store's minutes have: those given, and the cluster's own."""
    made = 0
    for cluster in fleet:
        of_node = sum(1 for _ in cluster.series[0].fields())
        made += cluster.minutes * (of_node - 1 + 2)  # without "ready", with two counts of nodes
    return made + sum(cluster.values for cluster in fleet)


def _report(report: Report, found: peers.Size, given: int, ours: dict[str, float]) -> None:
    if found.values != given:
        msg = f"{found.name} holds {found.values} of {given} values"
        raise RuntimeError(msg)
    million = 1_000_000 / given
    rows = (
        ("values", "B/value", found.data / given, found.how),
        ("values and index", "B/value", (found.data + found.index) / given, ""),
        ("load", "values/s", given / found.load_seconds, "until it had taken all of it in"),
        ("load, CPU", "s/million", found.cpu_seconds * million, "with compaction"),
    )
    for name, unit, value, note in rows:
        report.add(Measure(AREA, f"M12 {found.name}, {name}", unit, value, note=note))
    for name, size in (("sealed", found.data), ("sealed and names", found.data + found.index)):
        report.add(Measure(AREA, f"M12 ours, {name}, against it", "B/value", ours[name],
                           found.name, size / given, ours[name] / (size / given)))  # fmt: skip
