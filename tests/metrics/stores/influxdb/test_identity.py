"""The installation's id in an InfluxDB, and how one without it is told from a foreign one."""

from __future__ import annotations

from uuid import uuid4

import pytest

from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM
from metrics.stores.influxdb.store import InfluxStore
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import T0, row
from tests.metrics.stores.influxdb.server import keep_for_ever, own_prefix, server

pytestmark = pytest.mark.django_db


@pytest.fixture
def prefix():
    yield from own_prefix()


@pytest.fixture
def store(prefix):
    store = InfluxStore(server(), keep_for_ever, prefix=prefix)
    yield store
    store.close()


def test_the_id_is_written_once(store):
    first = str(uuid4())
    assert store.places([])[0].identity == ""
    store.adopt(first)
    store.adopt(str(uuid4()))
    assert store.places([])[0].identity == first


def test_an_influxdb_with_the_newest_minute_of_a_cluster_is_the_one_of_this_database(store):
    cluster = uuid4()
    rows = [row(SeriesKey("node", "", "n1"), T0)]
    store.write(cluster, STREAM, Batch(rows=rows, head=T0 + 60))
    assert store.places([cluster, uuid4()])[0].clusters == {cluster}
    (prefix,) = {name.partition("_")[0] for name in store._wanted()}
    foreign = InfluxStore(server(), keep_for_ever, prefix=f"{prefix}x")
    assert foreign.places([cluster])[0].clusters == frozenset()
    foreign.close()
