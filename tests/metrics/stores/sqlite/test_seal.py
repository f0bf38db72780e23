"""Sealed hours of the SQLite store: they read as if they were not, whatever comes late."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from uuid import uuid4

import pytest

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, CoarseRow, SeriesKey
from metrics.stores import StoreError
from metrics.stores.copier import StoredRow
from metrics.stores.sqlite import chunks, seal
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.metrics.stores import writer
from tests.metrics.stores.contract import CLUSTER, KEYS, NODE, POD, STREAM, coarse, row
from tests.metrics.stores.sqlite.sealing import DAY, HOUR, START, count, everything, hours
from tests.metrics.stores.sqlite.test_store import ROOT, assert_whole


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.sqlite3"


@pytest.fixture
def store(path):
    made = SqliteStore(path)
    yield made
    made.close()


def test_hours_are_sealed_two_hours_after_the_newest_data(store, path):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(5))
    before = everything(store, cluster)
    assert store.maintain(START + 5 * HOUR) == "sealed 360 rows in 6 chunks"
    assert everything(store, cluster) == before
    assert count(path, "SELECT count(*) FROM pod_1m") == 180
    assert count(path, "SELECT min(ts) FROM node_1m") == START + 2 * HOUR
    assert store.maintain(START + 5 * HOUR) == "nothing to do"
    assert store.check() == "ok"


def test_minutes_of_one_sample_and_of_several_are_sealed_alike(store):
    cluster = uuid4()
    alone = [row(NODE, START + 60 * m, cpu_mc=m) for m in range(60)]
    mixed = [row(POD, START + 60 * m, cpu_mc=Cell(1, m, m, m + m // 59)) for m in range(60)]
    store.write(cluster, STREAM, Batch(rows=alone + mixed))
    before = everything(store, cluster)
    assert "sealed" in store.maintain(START + 3 * DAY)
    assert everything(store, cluster) == before


def test_sealing_goes_on_where_its_time_was_up(store, path):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(5))
    before = everything(store, cluster)
    runs = 0
    while seal.seal_due(store._connections, START + 5 * HOUR, budget_seconds=0)[0]:
        runs += 1
        assert everything(store, cluster) == before
    assert (runs, count(path)) == (6, 6)
    assert store.maintain(START + 5 * HOUR) == "nothing to do"


def test_what_a_silent_cluster_left_is_sealed_after_two_days(store, path):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(2))
    assert store.maintain(START + 2 * DAY) == "nothing to do"
    before = everything(store, cluster)
    store.maintain(START + 2 * DAY + 2 * HOUR)
    assert count(path, "SELECT count(*) FROM pod_1m") == 0
    assert count(path, "SELECT count(*) FROM pod_1h") == 2
    store.maintain(START + 13 * DAY)
    assert count(path, "SELECT count(*) FROM pod_1h") == 0
    assert everything(store, cluster) == before


def test_late_data_enters_a_sealed_hour_and_every_rollup(store):
    cluster, plain = uuid4(), uuid4()
    late = Batch(
        rows=[
            row(POD, START + 60, cpu_mc=Cell(9, 9000, 0, 2000)),
            row(SeriesKey("pod", "new", "new"), START + 120, mem_ws=5),
            row(NODE, START + 180, cpu_mc=Cell(1, 7, 7, 7)),
        ],
        coarse=[CoarseRow("10m", START + 1200, POD, coarse(POD, "10m", 0, cpu_mc=3).cells)],
    )
    for name in (cluster, plain):
        store.write(name, STREAM, hours(30))
        if name == cluster:
            assert "sealed" in store.maintain(START + 30 * HOUR + 14 * DAY)
        store.write(name, STREAM, late)
    keys = (*KEYS, CLUSTER)

    def without_names(found):
        return [
            [part._replace(cluster=None) for part in entry]
            if isinstance(entry, list) and entry and hasattr(entry[0], "high")
            else entry
            for entry in found
        ]

    assert without_names(everything(store, cluster, keys)) == without_names(
        everything(store, plain, keys)
    )
    before = everything(store, cluster)
    assert "sealed" in store.maintain(START + 30 * DAY)
    assert everything(store, cluster) == before


def test_chunks_are_unpacked_while_others_may_write(store, path, monkeypatch):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(5))
    store.maintain(START + 40 * DAY)
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    unpacked = []

    def unpack(*arguments, **options):
        other.execute("BEGIN IMMEDIATE")  # refused if the lock were held
        other.execute("ROLLBACK")
        unpacked.append(arguments)
        return chunks.table_rows(*arguments, **options)

    monkeypatch.setattr(seal, "table_rows", unpack)
    store.write(cluster, STREAM, Batch(rows=[row(POD, START + 60, cpu_mc=Cell(9, 9, 1, 1))]))
    assert len(unpacked) == 3  # the pod's hour, day and ten days
    store.write(cluster, STREAM, Batch(coarse=[coarse(NODE, "1h", START, cpu_mc=3)]))
    assert len(unpacked) == 5  # those of the node and the cluster
    other.close()


def test_a_chunk_that_changes_while_it_is_unpacked_is_not_put_back_twice(store, path, monkeypatch):
    cluster, plain = uuid4(), uuid4()
    for name in (cluster, plain):
        store.write(name, STREAM, hours(5))
    store.maintain(START + 40 * DAY)
    second = SqliteStore(path)
    steps = [
        lambda: second.write(
            cluster, STREAM, Batch(rows=[row(POD, START, cpu_mc=Cell(3, 3, 1, 1))])
        ),
        lambda: second.expire(cluster, "pod", "10m", START + 1200),
    ]

    def unpack(*arguments, **options):
        if steps:
            steps.pop(0)()
        return chunks.table_rows(*arguments, **options)

    monkeypatch.setattr(seal, "table_rows", unpack)
    late = Batch(rows=[row(POD, START + 60, cpu_mc=Cell(9, 9, 1, 1))])
    store.write(cluster, STREAM, late)
    assert steps == []
    monkeypatch.undo()
    store.write(plain, STREAM, Batch(rows=[row(POD, START, cpu_mc=Cell(3, 3, 1, 1))]))
    store.expire(plain, "pod", "10m", START + 1200)
    store.write(plain, STREAM, late)
    second.close()
    for kind in FIELD_NAMES:
        for tier in TIERS:
            span = (kind, tier, START + 1200, START + DAY)
            assert store.counts(cluster, *span) == store.counts(plain, *span)
    assert store.counts(cluster, "pod", "1m", START, START + DAY) == store.counts(
        plain, "pod", "1m", START, START + DAY
    )


def test_expiry_takes_whole_chunks_and_parts_of_them(store, path):
    cluster, plain = uuid4(), uuid4()
    for name in (cluster, plain):
        store.write(name, STREAM, hours(50))
        if name == cluster:
            store.maintain(START + 30 * DAY)
    for kind in FIELD_NAMES:
        for tier, before in (
            ("1m", START + 90 * 60),
            ("10m", START + 30 * HOUR),
            ("1h", START + DAY),
        ):
            gone = store.expire(cluster, kind, tier, before)
            assert gone == store.expire(plain, kind, tier, before)
            assert store.expire(cluster, kind, tier, before) == 0
            span = (START, START + 3 * DAY)
            assert store.counts(cluster, kind, tier, *span) == store.counts(
                plain, kind, tier, *span
            )
    store.write(cluster, STREAM, Batch(rows=[row(POD, START + 100 * 60, cpu_mc=4)]))
    store.write(plain, STREAM, Batch(rows=[row(POD, START + 100 * 60, cpu_mc=4)]))
    for tier in TIERS:
        span = ("pod", tier, START, START + 3 * DAY)
        assert store.counts(cluster, *span) == store.counts(plain, *span)
    for kind in FIELD_NAMES:
        for tier in TIERS:
            store.expire(cluster, kind, tier, START + 40 * DAY)
    assert count(path) == count(path, "SELECT count(*) FROM chunk_data") == 0


def test_an_expiry_in_small_steps_leaves_nothing(store):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(9))
    store.maintain(START + 9 * HOUR)
    gone = steps = 0
    while found := store.expire(cluster, "pod", "1m", START + DAY, limit=100):
        gone, steps = gone + found, steps + 1
        if found < 100:
            break
    assert (gone, steps > 1) == (540, True)
    assert store.counts(cluster, "pod", "1m", START, START + DAY)[0] == 0


def test_forgotten_series_stay_forgotten_and_may_come_back(store):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(4))
    store.write(cluster, STREAM, hours(4, keys=[NODE], start=START + 4 * HOUR))
    store.maintain(START + 8 * HOUR)
    assert store.forget(cluster, START + 5 * HOUR) == 1
    assert store.read(cluster, POD, "cpu_mc", "1m", START, START + DAY).t == []
    assert store.counts(cluster, "pod", "1m", START, START + DAY) == (0, 0)
    assert list(store.read_many(cluster, "pod", "cpu_mc", "1m", START, START + DAY)) == []
    store.write(cluster, STREAM, Batch(rows=[row(POD, START + 60, cpu_mc=4)]))
    assert store.read(cluster, POD, "cpu_mc", "1m", START, START + DAY).total == [4]


def test_rows_that_could_not_be_sealed_are_not_loaded(store):
    cluster = uuid4()
    cells = row(POD, START, cpu_mc=5).cells
    good = StoredRow(START, POD, 1, cells)
    for bad in (
        good._replace(ts=START + 1),
        good._replace(n=-1),
        good._replace(cells=(Cell(1, 2**60, 2**60, 2**60), *cells[1:])),
        good._replace(cells=(Cell(1, 5, 6, 7), *cells[1:])),
    ):
        with pytest.raises(StoreError, match="not a valid 1m row"):
            store.load(cluster, "pod", "1m", [good, bad])
    assert store.counts(cluster, "pod", "1m", START, START + 60)[0] == 0
    assert store.load(cluster, "pod", "1m", [good]) == 1


def test_an_erased_cluster_leaves_no_chunk(store, path):
    cluster, other = uuid4(), uuid4()
    for name in (cluster, other):
        store.write(name, STREAM, hours(6))
    store.maintain(START + DAY)
    before = everything(store, other)
    store.erase(cluster)
    assert count(path) == count(path, "SELECT count(*) FROM chunk_data")
    assert count(path, "SELECT count(DISTINCT cluster) FROM chunk") == 1
    assert everything(store, other) == before


@pytest.mark.usefixtures("starts_servers")
def test_a_killed_sealer_loses_and_doubles_nothing(path, store):
    clusters = [uuid4() for _ in range(3)]
    for cluster in clusters:
        for hour in range(6):
            rows = [
                entry
                for minute in range(60)
                for entry in writer.batch(writer.START + hour * HOUR + 60 * minute).rows
            ]
            end = writer.START + (hour + 1) * HOUR
            ledger = writer.batch(writer.START).windows[0]
            line = type(ledger)(end - HOUR, end, "done", 60, 60, 1, "", "", None)
            store.write(cluster, STREAM, Batch(rows=rows, windows=[line], watermark=end, head=end))
    moments = random.Random(11)
    command = [
        sys.executable, "-c",
        "import sys; from pathlib import Path; from metrics.stores.sqlite.store import SqliteStore;"
        "print('ready', flush=True); SqliteStore(Path(sys.argv[1])).maintain(int(sys.argv[2]))",
        str(path), str(writer.START + 30 * DAY),
    ]  # fmt: skip
    for _ in range(8):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.12))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert store.check() == "ok"
        for cluster in clusters:
            assert_whole(store, cluster)
    store.maintain(writer.START + 30 * DAY)
    assert count(path, "SELECT count(*) FROM pod_1m") == 0
    for cluster in clusters:
        assert_whole(store, cluster)
