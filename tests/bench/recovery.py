"""M9 and M10: how fast the past is pulled, and that an outage of six hours leaves no gap.

Both use the whole path, :func:`metrics.pulling.pull.pull_cluster` and
:func:`metrics.pulling.backfill.backfill_cluster`, on their own clock. The cluster answers in
this process from memory; making its answers is not counted.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from clusters.models import Cluster as ClusterRow
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM
from metrics.stores import get_store
from metrics.stores.base import MetricStore
from tests.bench.answering import AnsweringCluster
from tests.bench.report import Measure, Report, cpu_seconds_of
from tests.bench.workload import Cluster, make_fleet
from tests.factories import ClusterFactory

AREA = "recovery"
NODES = 10  # with 30 pods each
DAY_MINUTES = 1440
OUTAGE_MINUTES = 360
BEFORE_MINUTES = 30
MAX_RUNS = 500


def run(report: Report, scale: float = 1.0) -> None:
    """Measure the recovery from an outage, then a day's history of a new cluster."""
    outage(report, OUTAGE_MINUTES)
    history(report, round(DAY_MINUTES * scale))


def outage(report: Report, minutes: int, area: str = AREA) -> None:
    """M10: cut the tunnel for ``minutes``, bring it back, fill what is missing."""
    number = 1 if area == AREA else 11
    row, far = _cluster(BEFORE_MINUTES + minutes + 10, number)
    first_end = far.cluster.start + BEFORE_MINUTES * 60
    back = first_end + minutes * 60
    _pull(row, far, first_end)
    _fill(row, far)
    far.cut = True
    for end in range(first_end + 60, back, 600):
        _pull(row, far, end)
    far.cut = False
    _pull(row, far, back)
    far.spent_seconds = 0.0
    wall, cpu = cpu_seconds_of(lambda: _fill(row, far))
    missing, doubled, wrong = _judge(far.cluster, row, back)
    for name, value, note in (
        ("minutes missing", missing, "of every series of the cluster"),
        ("minutes twice", doubled, ""),
        ("lines of the ledger that are not done, or not whole", wrong, ""),
    ):
        about = f"M10 tunnel cut for {minutes // 60} h: {name}"
        report.add(Measure(area, about, "", value, note=note))
    values = far.cluster.values * minutes // far.cluster.minutes
    _speed(report, area, f"M10 filling {minutes // 60} h", values, wall, cpu, far)


def history(report: Report, minutes: int, area: str = AREA) -> None:
    """M9: pull the past of a new cluster of 10 nodes and 300 pods into a store with others."""
    first = 2 if area == AREA else 12
    for number in (first, first + 1):  # others, so that the store is not empty
        row, far = _cluster(120, number)
        _pull(row, far, far.cluster.start + 7200)
        _fill(row, far)
    row, far = _cluster(minutes, first + 2)
    end = far.cluster.start + minutes * 60
    _pull(row, far, end)
    far.spent_seconds = 0.0
    wall, cpu = cpu_seconds_of(lambda: _fill(row, far))
    missing, doubled, _ = _judge(far.cluster, row, end)
    report.add(Measure(area, "M9 minutes missing or twice", "", missing + doubled))
    hours = minutes / 60
    name = f"M9 backfill of {hours:g} h of 310 series"
    _speed(report, area, name, far.cluster.values, wall, cpu, far)


def _cluster(minutes: int, number: int) -> tuple[ClusterRow, AnsweringCluster]:
    """Return an enrolled cluster, and what answers for it."""
    start = int(time.time()) // 3600 * 3600 - minutes * 60 // 3600 * 3600 - 7200
    [made] = make_fleet(1, minutes, start, seed=number, nodes=NODES)
    row = ClusterFactory(
        name=f"recovering-{number}", current__tunnel_up=True,
        enrolled_at=datetime.fromtimestamp(start, UTC),
    )  # fmt: skip
    return row, AnsweringCluster(made)


def _pull(row: ClusterRow, far: AnsweringCluster, end: int) -> None:
    """Pull the newest minutes at ``end``.

    Raises:
        RuntimeError: if it fails although the tunnel is up.
    """
    far.now = end + 6.0
    result = pull_cluster(row.pk, far.now, connect=far.connect)
    if (result.outcome == "ok") == far.cut:
        msg = f"unexpected: {result}"
        raise RuntimeError(msg)


def _fill(row: ClusterRow, far: AnsweringCluster) -> None:
    """Run the filling of gaps until none is open.

    Raises:
        RuntimeError: if that takes too many runs.
    """
    for _ in range(MAX_RUNS):
        result = backfill_cluster(row.pk, far.now, connect=far.connect)
        if result.ran and not result.open:
            return
    msg = f"gaps stay open: {result}"
    raise RuntimeError(msg)


def _judge(cluster: Cluster, row: ClusterRow, end: int) -> tuple[int, int, int]:
    """Return minutes missing, minutes stored twice, and windows of the ledger that are wrong."""
    store = get_store()
    wanted = range(cluster.start, end, 60)
    missing = doubled = 0
    for key in (SeriesKey("cluster", "", ""), *(one.key for one in cluster.series)):
        field = "cpu_mc"
        got = store.read(row.pk, key, field, "1m", cluster.start, end).t
        missing += len(set(wanted) - set(got))
        doubled += len(got) - len(set(got))
    return missing, doubled, _bad_windows(store, row, cluster.start, end)


def _bad_windows(store: MetricStore, row: ClusterRow, start: int, end: int) -> int:
    bad, reached = 0, start
    for line in store.windows(row.pk, STREAM, 0, 1 << 40):
        whole = line.start == reached and line.got == line.expected
        bad += line.state != "done" or not whole
        reached = line.end
    position = store.position(row.pk, STREAM)
    return bad + (reached < end) + (position.watermark != position.head)


def _speed(
    report: Report,
    area: str,
    name: str,
    values: int,
    wall: float,
    cpu: float,
    far: AnsweringCluster,
) -> None:
    wall, cpu = wall - far.spent_seconds, cpu - far.spent_seconds
    report.add(Measure(area, name, "s", wall, note=f"{values:,} values; CPU {cpu:.1f} s"))
    report.add(Measure(area, f"{name}: speed", "values/s", values / wall))
    report.add(Measure(area, f"{name}: CPU", "s/million", cpu / values * 1e6))
