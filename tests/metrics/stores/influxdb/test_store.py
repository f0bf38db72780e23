"""The InfluxDB store against a real InfluxDB 2: the contract, and what is special about it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.ledger import outdate
from metrics.stores.influxdb.store import InfluxStore
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import KEYS, NODE, POD, STREAM, T0, StoreContract, row
from tests.metrics.stores.influxdb.server import keep_for_ever, own_prefix, server

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def prefix(starts_servers):
    server()
    yield from own_prefix()


@pytest.fixture
def new_store(prefix):
    made = []

    def new(retention_seconds=keep_for_ever, **options):
        made.append(InfluxStore(server(), retention_seconds, prefix=prefix, **options))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(new_store):
    return new_store()


class TestInfluxdb(StoreContract):
    @pytest.fixture
    def new_store(self, new_store):
        return new_store


class TestInfluxdbThatRemembers(StoreContract):
    """With a clock at which the rows of the contract are of the last hours: few are read."""

    @pytest.fixture
    def new_store(self, new_store):
        return lambda: new_store(clock=lambda: T0 + 3600)


def test_a_pull_reads_nothing_again_that_this_process_wrote(new_store, monkeypatch):
    store, cluster = new_store(clock=lambda: T0 + 3600), uuid4()
    asked = []
    query = Influx.query

    def noted(self, *arguments):
        asked.append(arguments)
        return query(self, *arguments)

    monkeypatch.setattr(Influx, "query", noted)
    for m in range(75):
        rows = [row(key, T0 + 60 * at, cpu_mc=at) for at in (m - 1, m) if at >= 0 for key in KEYS]
        if m == 1:
            asked.clear()
        store.write(cluster, STREAM, Batch(rows=[r for r in rows if r.key.kind != "filesystem"]))
    assert asked == []
    found = store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 7200)
    assert (found.n, found.total) == ([60, 15], [1770, 1005])


def test_a_process_notices_what_another_one_wrote(new_store):
    one, other, cluster = (*(new_store(clock=lambda: T0 + 3600) for _ in range(2)), uuid4())
    for m, store in enumerate([one, other] * 5):
        store.write(cluster, STREAM, Batch(rows=[row(NODE, T0 + 60 * m, cpu_mc=m)]))
    assert one.read(cluster, NODE, "cpu_mc", "1h", T0, T0 + 60).total == [45]
    assert one.expire(cluster, "node", "1m", T0 + 540) == 9
    other.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=99)]))
    assert one.read(cluster, NODE, "cpu_mc", "1h", T0, T0 + 60).total == [45]


def test_a_cluster_gets_only_so_many_new_series_a_day(store, monkeypatch):
    monkeypatch.setattr("metrics.stores.influxdb.series.MAX_NEW_SERIES_PER_DAY", 5)
    cluster = uuid4()
    keys = [POD._replace(name=f"p{at}") for at in range(8)]
    result = store.write(cluster, STREAM, Batch(rows=[row(key, T0, cpu_mc=1) for key in keys]))
    assert (result.skipped_rows, result.detail) == (
        3, "3 rows skipped: more than 5 new series in a day",
    )  # fmt: skip
    later = [row(key, T0 + 60, cpu_mc=1) for key in keys]
    assert store.write(cluster, STREAM, Batch(rows=later)).skipped_rows == 3
    assert len(store.last(cluster, "pod", since=T0 + 60)) == 5


def test_a_write_that_somebody_interfered_with_is_not_remembered(store, monkeypatch):
    cluster = uuid4()
    write = Influx.write

    def meanwhile(self, *arguments):
        write(self, *arguments)
        outdate(cluster=cluster)

    with monkeypatch.context() as patch:
        patch.setattr(Influx, "write", meanwhile)
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=1)]))
    assert store._memory._known.get(cluster) is None
    store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 60, cpu_mc=2)]))
    assert store._memory._known.get(cluster) is not None
    assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [3]


def test_years_without_rows_cost_a_few_queries(store, monkeypatch):
    cluster, asked = uuid4(), []
    far = T0 + 700 * 86_400
    store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=1), row(POD, far, cpu_mc=2)]))
    query = Influx.query

    def noted(self, *arguments):
        asked.append(arguments)
        return query(self, *arguments)

    monkeypatch.setattr(Influx, "query", noted)
    assert [stored.ts for stored in store.scan(cluster, "pod", "1m", 0, 1 << 33)] == [T0, far]
    assert store.expire(cluster, "pod", "1m", far + 60) == 2
    assert len(asked) < 60
