"""What the InfluxDB store says and keeps when InfluxDB is away, refuses, is full or was tidied."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from dataclasses import replace
from uuid import uuid4

import pytest
from django.db import connection, connections

from metrics.models.influxdb_store import MetricCluster
from metrics.series.windows import Position
from metrics.stores import StoreError
from metrics.stores.copier import StoredRow
from metrics.stores.influxdb.client import Influx, Server
from metrics.stores.influxdb.store import InfluxStore
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import CLUSTER, NODE, POD, STREAM, T0, row, window
from tests.metrics.stores.influxdb.server import Between, keep_for_ever, own_prefix, server

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def prefix(starts_servers):
    server()
    yield from own_prefix()


@pytest.fixture
def between(prefix):
    one = Between(server())
    yield one
    one.stop()


@pytest.fixture
def store(prefix, between):
    one = InfluxStore(between.server, keep_for_ever, prefix=prefix)
    yield one
    one.close()


@pytest.fixture
def cluster():
    return uuid4()


def minutes(first=0, last=20):
    rows = [row(key, T0 + 60 * m, cpu_mc=m) for m in range(first, last) for key in (NODE, POD)]
    end = T0 + 60 * last
    return Batch(rows, [], [window(T0 + 60 * first, end)], end, end)


FAULTS = {
    "full disk": (
        500,
        b'{"code":"internal error","message":"unexpected error writing points to database:'
        b' write /var/lib/influxdb2/wal/_00001.wal: no space left on device"}',
        r"the disk of InfluxDB at http://\S+ is full \(500\)",
    ),
    "points refused": (
        422,
        b'{"code":"unprocessable entity","message":"failure writing points to database: partial'
        b' write: points beyond retention policy dropped=3"}',
        r"refused points for bucket \S+_1[0hm]+_forever \(422\): .* dropped=3",
    ),
    "no right": (
        403,
        b'{"code":"forbidden","message":"insufficient"}',
        r"allowed to do this \(403\)",
    ),
    "too busy": (503, b"<html>busy</html>", r"answered 503 for bucket \S+: <html>busy</html>"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_refused_write_moves_nothing_and_is_made_good_by_the_same_batch(
    store, between, cluster, name, after
):
    status, body, message = FAULTS[name]
    between.fault, between.after = (status, body), after
    with pytest.raises(StoreError, match=message):
        store.write(cluster, STREAM, minutes())
    assert store.position(cluster, STREAM) == Position(None, None)
    assert store.last(cluster, "pod") == []
    assert store.windows(cluster, STREAM, 0, 1 << 40) == []
    between.fault = None
    store.write(cluster, STREAM, minutes())
    assert store.position(cluster, STREAM).watermark == T0 + 1200
    assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 3600).total == [190]
    assert store.read(cluster, CLUSTER, "cpu_mc", "10m", T0, T0 + 3600).n == [10, 10]


def bucket_of(store, tier):
    return f"{store._buckets.prefix}_{tier}_forever"


def test_a_real_conflict_of_types_is_named_and_stores_nothing_silently(store, cluster):
    store.write(cluster, STREAM, minutes(0, 1))
    later = T0 + 86_400 * 30
    line = f"pod,cluster={uuid4()},name=web-1,ns=default cpu_mc=1.5 {later}"
    Influx(server()).write(bucket_of(store, "1m"), [line.encode()])
    late = Batch([row(POD, later, cpu_mc=1)], watermark=later)
    with pytest.raises(StoreError, match=r"\(422\).*type conflict"):
        store.write(cluster, STREAM, late)
    assert store.position(cluster, STREAM).watermark == T0 + 60


def test_values_that_somebody_else_wrote_are_named(store, cluster):
    store.write(cluster, STREAM, minutes(0, 1))
    later = T0 + 86_400 * 60
    line = f"pod,cluster={cluster},name=web-1,ns=default cpu_mc=1.5 {later}"
    Influx(server()).write(bucket_of(store, "1m"), [line.encode()])
    for call in (
        lambda: store.read(cluster, POD, "cpu_mc", "1m", later, later + 60),
        lambda: store.top([cluster], "pod", "cpu_mc", "1m", later, later + 60, limit=1),
        lambda: store.write(cluster, STREAM, Batch([row(POD, later, cpu_mc=1)])),
    ):
        with pytest.raises(StoreError, match="something else writes into it"):
            call()


def test_a_wrong_token_is_named(between, prefix, cluster):
    wrong = InfluxStore(replace(between.server, token="wrong"), keep_for_ever, prefix=prefix)
    message = r"refuses the token \(401\): check INFLUXDB_TOKEN"
    for call in (
        lambda: wrong.write(cluster, STREAM, minutes()),
        wrong.ping,
    ):
        with pytest.raises(StoreError, match=message):
            call()


def test_a_wrong_organisation_is_named(between, prefix, cluster):
    wrong = InfluxStore(replace(between.server, org="nobody"), keep_for_ever, prefix=prefix)
    with pytest.raises(StoreError, match=r"INFLUXDB_ORG|no organisation nobody"):
        wrong.ping()
    with pytest.raises(StoreError, match=r"INFLUXDB_ORG|nobody"):
        wrong.write(cluster, STREAM, minutes())


def test_a_bucket_that_was_deleted_is_named_and_made_again_by_maintenance(store, cluster):
    store.write(cluster, STREAM, minutes(0, 10))
    influx = Influx(server())
    (name,) = [n for n in influx.buckets() if n == f"{store._buckets.prefix}_10m_forever"]
    influx.drop_bucket(influx.buckets()[name])
    assert f"has no bucket {name}" in store.check()
    with pytest.raises(StoreError, match=f"has no bucket {name}"):
        store.write(cluster, STREAM, minutes(10, 20))
    with pytest.raises(StoreError, match=f"has no bucket {name}"):
        store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 3600)
    assert store.position(cluster, STREAM).watermark == T0 + 600
    assert f"made bucket {name}" in store.maintain(T0)
    store.write(cluster, STREAM, minutes(10, 20))
    assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 3600).t == [T0 + 600]
    assert store.check() == "ok"


def test_a_server_that_is_away_is_named_and_found_again(store, between, cluster):
    store.write(cluster, STREAM, minutes(0, 10))
    between.stop()
    for call in (
        lambda: store.write(cluster, STREAM, minutes(10, 20)),
        lambda: store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 60),
        store.ping,
        lambda: store.erase(cluster),
    ):
        with pytest.raises(StoreError, match=r"InfluxDB at http://127.0.0.1:\d+ does not answer"):
            call()
    assert "does not answer" in store.check()
    assert store.clusters() == []  # an erasure that was begun is out of sight
    with pytest.raises(StoreError, match="being erased"):
        store.write(cluster, STREAM, minutes(10, 20))
    back = Between(server(), between.port)
    try:
        assert f"erased cluster {cluster}" in store.maintain(T0)
        store.write(cluster, STREAM, minutes(10, 20))
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 3600).t[0] == T0 + 600
    finally:
        back.stop()


def test_an_answer_that_breaks_off_is_no_short_answer(store, cluster, prefix):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 5000\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            way, _ = listener.accept()
            way.recv(65_536)
            way.sendall(head + b",result,table,_time,_value\r\n,,0,2023")
            way.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            pytest.raises(StoreError, match="does not answer"),
            Influx(Server(url, "o", "t")).query("x", {}) as stream,
        ):
            list(stream.stream(1000))


def test_rows_older_than_their_tier_is_kept_still_count_for_wider_ones(prefix, cluster):
    day = 86_400
    now = int(time.time())
    old = now // 3600 * 3600 - 20 * day
    days = {"1m": 7 * day, "10m": 90 * day, "1h": 730 * day}
    store = InfluxStore(server(), lambda _: dict.fromkeys(keep_for_ever(cluster), days),
                        prefix=prefix)  # fmt: skip
    rows = [row(POD, old + 60 * m, cpu_mc=m) for m in range(10)]
    result = store.write(cluster, STREAM, Batch(rows=rows, watermark=old))
    assert result.detail == "10 rows not stored: older than their tier is kept"
    assert store.read(cluster, POD, "cpu_mc", "1m", old, now).t == []
    assert store.read(cluster, POD, "cpu_mc", "10m", old, now).total == [45]
    with pytest.raises(StoreError, match="10 pod rows of 1m are older"):
        store.load(cluster, "pod", "1m", [StoredRow(r.ts, r.key, 1, r.cells) for r in rows])
    store.close()


def test_a_writer_that_died_is_waited_for_until_its_time_is_over(store, cluster, monkeypatch):
    store.write(cluster, STREAM, minutes(0, 1))
    monkeypatch.setattr("metrics.stores.influxdb.ledger.WRITER_WAIT_SECONDS", 0.1)
    rows = MetricCluster.objects.filter(cluster=cluster)
    rows.update(writer="dead", writer_until=time.time() + 60)
    with pytest.raises(StoreError, match="another process writes"):
        store.write(cluster, STREAM, minutes(0, 2))
    rows.update(writer_until=time.time() - 1)
    store.write(cluster, STREAM, minutes(0, 2))
    assert store.position(cluster, STREAM).watermark == T0 + 120


@pytest.mark.django_db(transaction=True)
def test_many_threads_and_stores_write_one_cluster_without_losing_a_node(prefix, cluster):
    stores = [InfluxStore(server(), keep_for_ever, prefix=prefix) for _ in range(4)]
    failures = []

    def work(number):
        try:
            key = NODE._replace(name=f"n{number}")
            for m in range(5):
                batch = Batch(rows=[row(key, T0 + 60 * m, cpu_mc=10**number)])
                stores[number].write(cluster, STREAM, batch)
        except StoreError as exc:
            failures.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for store in stores:
        assert store.read(cluster, CLUSTER, "cpu_mc", "10m", T0, T0 + 600).total == [5 * 1111]
        store.close()


def _in_a_child(store, cluster, queue):
    queue.put((os.getpid(), store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 1200).n))


@pytest.mark.django_db(transaction=True)
def test_a_child_makes_a_client_of_its_own(store, cluster):
    store.write(cluster, STREAM, minutes())
    client = store._influx._api
    connections.close_all()  # Django's are the caller's to part with
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_child, args=(store, cluster, queue))
    child.start()
    pid, found = queue.get(timeout=60)
    child.join(60)
    assert (pid != os.getpid(), found) == (True, [1] * 20)
    assert store._influx._api is client
    assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 1200).n == [1] * 20
