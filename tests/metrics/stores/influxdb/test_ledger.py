"""Processes that write one cluster in turn: each reads what the others wrote, and little else."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell
from metrics.stores import StoreError
from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.store import InfluxStore
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import KEYS, NODE, POD, STREAM, T0, coarse, row, window
from tests.metrics.stores.influxdb.server import keep_for_ever, own_prefix, server

pytestmark = pytest.mark.django_db
MINUTE = 60


@pytest.fixture(scope="module")
def prefix(starts_servers):
    server()
    yield from own_prefix()


class Time:
    """A clock that the test sets."""

    now = T0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def processes(prefix, clock):
    made = [InfluxStore(server(), keep_for_ever, prefix=prefix, clock=clock) for _ in range(3)]
    yield made
    for store in made:
        store.close()


@pytest.fixture
def reference(tmp_path):
    store = SqliteStore(tmp_path / "reference.sqlite3")
    yield store
    store.close()


def counts(store, cluster):
    return {
        (kind, tier): store.counts(cluster, kind, tier, 0, 1 << 33)
        for kind in FIELD_NAMES
        for tier in TIERS
    }


def test_two_processes_in_turn_read_no_more_than_what_the_other_one_wrote(
    processes, reference, clock, monkeypatch
):
    cluster, asked = uuid4(), []
    query = Influx.query

    def noted(self, *arguments):
        asked.append(arguments)
        return query(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Influx, "query", noted)
        for m in range(75):
            clock.now = T0 + MINUTE * (m + 1)
            minutes = [at for at in (m - 1, m) if at >= 0]
            batch = Batch([row(key, T0 + 60 * at, cpu_mc=at) for at in minutes for key in KEYS])
            asked.clear()
            processes[m % 2].write(cluster, STREAM, batch)
            reference.write(cluster, STREAM, batch)
            assert m < 2 or len(asked) == 1, m
    assert counts(processes[2], cluster) == counts(reference, cluster)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_processes_write_in_turn_the_numbers_are_those_of_one(
    processes, reference, clock, seed
):
    cluster, rng = uuid4(), random.Random(seed)
    for m in range(70):
        clock.now = T0 + MINUTE * (m + 1)
        batch = made(rng, m)
        rng.choice(processes).write(cluster, STREAM, batch)
        reference.write(cluster, STREAM, batch)
        if rng.random() < 0.05:
            for store in (rng.choice(processes), reference):
                store.put_series(cluster, [])
    assert counts(processes[0], cluster) == counts(reference, cluster)
    assert processes[1].series(cluster) == reference.series(cluster)


def made(rng, minute):
    """Return a live pull's batch; sometimes late rows, better ones, wider ones, or none."""
    chance = rng.random()
    if chance < 0.1:
        start = T0 + 600 * (minute // 10)
        return Batch(windows=[window(start, start + 600, "gap")])
    if chance < 0.2:
        return Batch(coarse=[coarse(rng.choice((NODE, POD)), "10m", T0, cpu_mc=Cell(5, 50, 1, 9))])
    newest = minute if chance < 0.8 else rng.randrange(minute + 1)
    minutes = range(max(0, newest - rng.randrange(3)), newest + 1)
    keys = rng.sample(KEYS, rng.randint(1, len(KEYS)))
    return Batch([sampled(rng, key, T0 + MINUTE * at) for at in minutes for key in keys])


def sampled(rng, key, ts):
    n, value = rng.randint(1, 4), rng.randrange(100)
    return row(key, ts, cpu_mc=Cell(n, n * value, value - 1, value + rng.randrange(2)))


def test_nobody_relies_on_what_he_remembers_from_before_a_write_that_failed(
    processes, clock, monkeypatch
):
    one, other, _ = processes
    cluster = uuid4()
    better = row(POD, T0 + MINUTE, cpu_mc=Cell(4, 400, 90, 110))
    worse = row(POD, T0 + MINUTE, cpu_mc=Cell(1, 1, 1, 1))
    clock.now = T0 + 2 * MINUTE
    one.write(cluster, STREAM, Batch([row(POD, T0, cpu_mc=7)]))
    write = Influx.write

    def cut_off(self, bucket, lines):
        if "_10m_" in bucket:
            msg = "it went away"
            raise StoreError(msg)
        write(self, bucket, lines)

    with monkeypatch.context() as patch:
        patch.setattr(Influx, "write", cut_off)
        with pytest.raises(StoreError):
            other.write(cluster, STREAM, Batch([better]))
    one.write(cluster, STREAM, Batch([worse]))
    minutes = one.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 600)
    assert (minutes.total, minutes.high) == ([7, 100], [7, 110])
    assert one.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).total == [107]
