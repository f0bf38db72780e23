"""A change of retention: rows follow into other buckets, and nothing that is wanted is lost."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from metrics.models.influxdb_store import MetricPlace
from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell
from metrics.stores import StoreError
from metrics.stores.influxdb import bucket_moves
from metrics.stores.influxdb.buckets import SLACK_SECONDS
from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.flux import of_cluster, points
from metrics.stores.influxdb.store import InfluxStore
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import CLUSTER, NODE, POD, STREAM, coarse, row
from tests.metrics.stores.influxdb.server import own_prefix, server

pytestmark = pytest.mark.django_db
DAY = 86_400
NOW = int(time.time()) // 3600 * 3600
START = NOW - 3 * DAY


class Class:
    """A retention class that the test changes; kinds may differ."""

    def __init__(self, **days: int) -> None:
        self.days = {"1m": 7, "10m": 90, "1h": 730, **days}
        self.of_pods: dict[str, int] = {}

    def __call__(self, cluster):
        del cluster
        every = {tier: days * DAY for tier, days in self.days.items()}
        pods = {tier: days * DAY for tier, days in (self.days | self.of_pods).items()}
        return {kind: pods if kind == "pod" else every for kind in FIELD_NAMES}


@pytest.fixture(scope="module")
def prefix(starts_servers):
    server()
    yield from own_prefix()


@pytest.fixture
def retention_seconds():
    return Class()


@pytest.fixture
def store(prefix, retention_seconds):
    one = InfluxStore(server(), retention_seconds, prefix=prefix)
    yield one
    one.close()


@pytest.fixture
def cluster(store):
    """Three hours of two series, three days ago, and an hour of the day before."""
    one = uuid4()
    rows = [
        row(key, ts, cpu_mc=Cell(2, 2 * m, m - 1, m + 1))
        for m, ts in enumerate(range(START, START + 3 * 3600, 60))
        for key in (NODE, POD)
    ]
    rough = [coarse(POD, "1h", START - 2 * DAY, cpu_mc=Cell(60, 60, None, None))]
    store.write(one, STREAM, Batch(rows=rows, coarse=rough, watermark=START, head=START))
    return one


def everything(store, cluster):
    return [
        list(store.scan(cluster, kind, tier, 0, 1 << 33)) for kind in FIELD_NAMES for tier in TIERS
    ]


def in_bucket(name, cluster, kind="pod", tier="1m"):
    return points(Influx(server()), name, tier, of_cluster(cluster, [kind], 0, 1 << 33))


def test_a_longer_class_moves_all_rows_and_empties_the_old_bucket(
    store, cluster, retention_seconds, prefix
):
    before = everything(store, cluster)
    retention_seconds.of_pods = {"1m": 30}
    assert "moved 1 kinds and tiers" in store.maintain(NOW)
    assert everything(store, cluster) == before
    assert in_bucket(f"{prefix}_1m_7d", cluster) == {}
    assert len(in_bucket(f"{prefix}_1m_7d", cluster, "node")[NODE]) == 180
    assert len(in_bucket(f"{prefix}_1m_30d", cluster)[POD]) == 180
    assert not MetricPlace.objects.filter(moving=True).exists()
    assert store.maintain(NOW).endswith("buckets are there")
    bucket = Influx(server()).buckets()[f"{prefix}_1m_30d"]
    assert bucket.retention_rules[0].every_seconds == 30 * DAY + SLACK_SECONDS
    assert bucket.retention_rules[0].shard_group_duration_seconds == DAY


def test_while_rows_are_moved_reads_see_both_and_writes_go_on(
    store, cluster, retention_seconds, monkeypatch
):
    before = everything(store, cluster)
    retention_seconds.days["1m"] = 14
    monkeypatch.setattr("metrics.stores.influxdb.store.MOVE_SECONDS", -1)
    assert "3 moves continue" in store.maintain(NOW)  # there are no filesystems
    assert everything(store, cluster) == before
    # Late data, better than what is in the old bucket, and new data.
    better = row(POD, START + 60, cpu_mc=Cell(9, 9000, 1000, 1000))
    worse = row(POD, START + 120, cpu_mc=Cell(1, 5, 5, 5))
    fresh = [row(POD, START + 3 * 3600 + 60 * m, cpu_mc=1) for m in range(5)]
    store.write(cluster, STREAM, Batch(rows=[better, worse, *fresh]))
    found = store.read(cluster, POD, "cpu_mc", "1m", START, START + 4 * 3600)
    assert (found.total[:3], len(found.t)) == ([0, 1000, 2], 185)
    assert store.read(cluster, POD, "cpu_mc", "10m", START, START + 600).total == [1044]
    span = ("pod", "cpu_mc", "1m", START, START + 600)
    (top,) = store.top([cluster], *span, limit=9)
    assert (top.n, top.total, top.high) == (10, 1044, 1000)
    during = everything(store, cluster)
    monkeypatch.undo()
    assert "moved 3 kinds and tiers" in store.maintain(NOW)
    assert everything(store, cluster) == during


def test_a_move_that_died_between_two_blocks_goes_on(
    store, cluster, retention_seconds, monkeypatch
):
    before = everything(store, cluster)
    retention_seconds.of_pods = {"1m": 21}
    copy, calls = bucket_moves.Mover._copy, []

    def dies(self, *where):
        if len(calls) == 1:
            raise StoreError("killed")
        calls.append(where)
        copy(self, *where)

    monkeypatch.setattr(bucket_moves.Mover, "_copy", dies)
    with pytest.raises(StoreError, match="killed"):
        store.maintain(NOW)
    assert everything(store, cluster) == before
    monkeypatch.undo()
    store.maintain(NOW)
    assert everything(store, cluster) == before
    assert not MetricPlace.objects.filter(moving=True).exists()


def test_a_shorter_class_copies_only_what_it_wants(store, cluster, retention_seconds, prefix):
    retention_seconds.days = {"1m": 1, "10m": 2, "1h": 4}
    store.maintain(NOW)
    assert store.read(cluster, POD, "cpu_mc", "1m", 0, NOW).t == []
    assert store.read(cluster, POD, "cpu_mc", "10m", 0, NOW).t == []
    assert store.read(cluster, POD, "cpu_mc", "1h", 0, NOW).t[0] == START
    assert in_bucket(f"{prefix}_1m_7d", cluster) == {}


def test_a_legal_hold_keeps_for_ever_and_its_end_brings_the_class_back(
    store, cluster, retention_seconds, prefix
):
    before = everything(store, cluster)
    usual = dict(retention_seconds.days)
    retention_seconds.days = dict.fromkeys(TIERS, 0)
    store.maintain(NOW)
    assert everything(store, cluster) == before
    bucket = Influx(server()).buckets()[f"{prefix}_1m_forever"]
    assert bucket.retention_rules == [] or not bucket.retention_rules[0].every_seconds
    retention_seconds.days = usual
    store.maintain(NOW)
    assert everything(store, cluster) == before
    assert in_bucket(f"{prefix}_1m_forever", cluster) == {}


def test_what_expired_stays_out_of_sight_and_may_come_back_under_a_longer_class(
    store, cluster, retention_seconds
):
    assert store.expire(cluster, "pod", "1m", START + 7200) == 120
    assert store.counts(cluster, "pod", "1m", 0, NOW)[0] == 60
    retention_seconds.of_pods = {"1m": 40}
    store.maintain(NOW)
    assert store.counts(cluster, "pod", "1m", 0, NOW)[0] == 60
    store.write(cluster, STREAM, Batch(rows=[row(POD, START, cpu_mc=3)]))
    assert store.read(cluster, POD, "cpu_mc", "1m", START, START + 60).total == [3]


def test_a_bucket_that_somebody_shortened_is_lengthened_again(store, cluster, prefix):
    influx = Influx(server())
    influx.lengthen_bucket(influx.buckets()[f"{prefix}_1h_730d"], 8 * DAY)
    assert f"bucket {prefix}_1h_730d keeps its points for {8 * DAY} s only" in store.check()
    assert f"lengthened bucket {prefix}_1h_730d" in store.maintain(NOW)
    assert store.check() == "ok"
    assert store.read(cluster, CLUSTER, "cpu_mc", "1h", START, NOW).n == [60] * 3
