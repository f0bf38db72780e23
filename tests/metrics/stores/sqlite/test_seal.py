"""Sealed hours of the SQLite store: they read as if they were not, whatever comes late."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from unittest.mock import patch
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, CoarseRow, MinuteRow, SeriesKey
from metrics.stores import StoreError
from metrics.stores.copier import StoredRow
from metrics.stores.sqlite import chunks, rollup, schema, seal, sealed
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.examples import examples
from tests.metrics.stores import writer
from tests.metrics.stores.contract import CLUSTER, KEYS, NODE, POD, STREAM, T0, coarse, row
from tests.metrics.stores.sqlite.damage import damage
from tests.metrics.stores.sqlite.test_store import ROOT, assert_whole

HOUR, DAY = 3600, 86_400
START = T0 // (10 * DAY) * 10 * DAY


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.sqlite3"


@pytest.fixture
def store(path):
    made = SqliteStore(path)
    yield made
    made.close()


def count(path, query="SELECT count(*) FROM chunk"):
    connection = sqlite3.connect(path)
    (found,) = connection.execute(query).fetchone()
    connection.close()
    return found


def everything(store, cluster, keys=(*KEYS, CLUSTER)):
    """Return all that reads say of a cluster, by every way to ask."""
    span = (START - DAY, START + 40 * DAY)
    found = []
    for kind, names in FIELD_NAMES.items():
        for tier in TIERS:
            found.append((kind, tier, store.counts(cluster, kind, tier, *span)))
            found.append(list(store.scan(cluster, kind, tier, START + 120, START + 2 * DAY)))
            for field in names[:2]:
                found.append(store.read_many(cluster, kind, field, tier, *span))
                found += [
                    store.top([cluster], kind, field, tier, *span, limit=3, by=by)
                    for by in ("mean", "max")
                ]
    for key in keys:
        for tier in TIERS:
            names = FIELD_NAMES[key.kind]
            found.append(store.read_fields(cluster, key, names, tier, *span))
            found.append(store.read(cluster, key, names[0], tier, START + 90, START + 3 * HOUR))
    found.append(store.series(cluster))
    return found


def hours(count, keys=(NODE, POD), start=START):
    """Return a batch of whole hours in which every field moves."""
    rows = [
        MinuteRow(ts, key, tuple(Cell(2, 2 * v, v - 1, v + 1) for v in values))
        for ts in range(start, start + count * HOUR, 60)
        for key in keys
        for values in [[ts // 60 % 97 + at for at in range(len(FIELD_NAMES[key.kind]))]]
    ]
    return Batch(rows=rows)


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


def test_forgotten_series_take_no_place_among_the_largest(store):
    cluster = uuid4()
    gone = [SeriesKey("pod", "old", f"p{at}") for at in range(5)]
    rows = [row(key, START + 60 * m, cpu_mc=900) for key in gone for m in range(5)]
    rows += [row(POD, START + 60 * m, cpu_mc=1 + m) for m in range(10)]
    rows += [row(KEYS[4], START + 60 * m, cpu_mc=3) for m in range(10)]
    store.write(cluster, STREAM, Batch(rows=rows))
    assert store.forget(cluster, START + 300) == 5
    for later in (0, 30 * DAY):
        store.maintain(START + later)
        for by in ("mean", "max"):
            found = store.top([cluster], "pod", "cpu_mc", "1m", START, START + 600, limit=2, by=by)
            assert {entry.key for entry in found} == {POD, KEYS[4]}


def busy(draw, series):
    """Return five hours of some of 70 to 200 pods: more than one chunk an hour, with gaps."""
    keys = [SeriesKey("pod", "ns", f"p{at:03}") for at in range(series)]
    return [
        row(
            key,
            START + 60 * m,
            cpu_mc=Cell(2, 2 * value, value - 1, value + draw.randrange(3)),
            restarts=at % 3 // 2,
        )
        for at, key in enumerate(keys)
        for m in range(draw.randrange(150), 300, 7)
        for value in [10 + draw.randrange(10 ** (1 + at % 4))]
    ]


def test_the_largest_of_sealed_hours_are_the_same_as_when_all_is_added_up(store, path):
    draw = random.Random(23)
    clusters = [uuid4() for _ in range(3)]
    for series, cluster in zip((70, 130, 200), clusters, strict=True):
        rows = busy(draw, series)
        store.write(cluster, STREAM, Batch(rows=rows[1::2]))
        store.write(cluster, STREAM, Batch(rows=rows[::2]))
    questions = [
        (field, tier, span, limit, by)
        for field in ("cpu_mc", "restarts", "mem_ws")
        for tier in ("1m", "10m")
        for span in ((0, 900), (3000, 4200), (1800, 5 * HOUR), (9000, 12_000))
        for limit in (1, 20, 500)
        for by in ("mean", "max")
    ]

    def answers():
        return [
            store.top(
                clusters, "pod", field, tier, START + span[0], START + span[1], limit=limit, by=by
            )
            for field, tier, span, limit, by in questions
        ]

    hot = answers()
    assert sum(map(len, hot)) > 1000
    for later in (5 * HOUR, 40 * DAY):  # the newest hours are not sealed; then everything is
        assert "sealed" in store.maintain(START + later)
        assert answers() == hot
    assert count(path, "SELECT count(*) FROM chunk WHERE highs IS NULL") == 0
    connection = sqlite3.connect(path)
    connection.execute("UPDATE chunk SET highs = NULL WHERE id % 2")  # as version 2 sealed them
    connection.commit()
    connection.close()
    assert answers() == hot


def test_a_file_with_chunks_of_version_2_reads_as_before(store, path):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(5))
    store.maintain(START + 40 * DAY)
    before = everything(store, cluster)
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE chunk DROP COLUMN highs")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    store = SqliteStore(path)
    assert everything(store, cluster) == before
    assert store.check() == "ok"
    store.close()


def test_few_chunks_are_opened_for_the_largest(store, monkeypatch):
    cluster = uuid4()
    keys = [SeriesKey("pod", "ns", f"p{at:04}") for at in range(640)]
    rows = [row(key, START + 60 * m, cpu_mc=at) for m in (0, 5) for at, key in enumerate(keys)]
    store.write(cluster, STREAM, Batch(rows=rows))
    store.maintain(START + 40 * DAY)
    looked = []
    opening = sealed._open
    monkeypatch.setattr(
        sealed, "_open", lambda *a: looked.append(a[1]) or opening(*a)
    )  # fmt: skip
    found = store.top([cluster], "pod", "cpu_mc", "1m", START, START + 900, limit=20)
    assert [entry.key for entry in found] == keys[:-21:-1]
    assert len(looked) == 1


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


def test_chunks_outlive_a_catalogue_that_grew(path, monkeypatch):
    cluster = uuid4()
    old = {**schema.FIELD_NAMES, "pod": schema.FIELD_NAMES["pod"][:3]}
    rows = [row(POD, START + 60 * m, cpu_mc=m, mem_ws=5) for m in range(300)]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "FIELD_NAMES", old)
        patch.setattr("metrics.stores.sqlite.seal.FIELD_NAMES", old)
        patch.setattr("metrics.stores.sqlite.write.FIELD_NAMES", old)
        patch.setattr(schema, "upsert_minute", schema.upsert_minute.__wrapped__)
        patch.setattr(schema, "upsert_last", schema.upsert_last.__wrapped__)
        patch.setattr(schema, "roll_up", schema.roll_up.__wrapped__)
        store = SqliteStore(path)
        short = [entry._replace(cells=entry.cells[:3]) for entry in rows]
        store.write(cluster, STREAM, Batch(rows=short))
        assert "sealed" in store.maintain(START + DAY)
        store.close()
    store = SqliteStore(path)
    span = ("1m", START, START + DAY)
    assert store.read(cluster, POD, "cpu_mc", *span).total == list(range(300))
    assert store.read(cluster, POD, "restarts", *span).t == []
    store.write(cluster, STREAM, Batch(rows=[row(POD, START + 60, restarts=2, cpu_mc=8)]))
    assert store.read(cluster, POD, "restarts", *span).total == [2]
    assert store.read(cluster, POD, "mem_ws", *span).total == [5] + [5] * 298
    store.close()


def test_a_damaged_chunk_is_reported_and_hides_nothing_else(store, path, caplog):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(6))
    store.maintain(START + 6 * HOUR)
    damage(path)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            found = store.read(cluster, POD, "cpu_mc", "1m", START, START + DAY)
            assert found.t == list(range(START + HOUR, START + 6 * HOUR, 60))
    assert caplog.text.count("damaged") == 1
    assert f"1m of pods of cluster {cluster}" in caplog.text
    assert store.read(cluster, NODE, "cpu_mc", "1m", START, START + DAY).t[0] == START
    assert sum(store.read(cluster, POD, "cpu_mc", "1h", START, START + DAY).n) == 360
    assert "1 of" in store.check()
    assert "damaged" in store.check()
    assert str(cluster) in store.check()


def test_a_read_says_what_a_damaged_chunk_held(store, path):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(6))
    store.maintain(START + 6 * HOUR)
    damage(path)

    def damaged(key=POD, tier="1m", start=START, end=START + DAY):
        return store.read(cluster, key, "cpu_mc", tier, start, end).damaged

    for find_out in (lambda: "not yet", store.check):
        find_out()
        assert damaged() == ((START, START + HOUR),)
        assert damaged(start=START + 120, end=START + 300) == ((START + 120, START + 300),)
        assert damaged(start=START + HOUR) == damaged(NODE) == damaged(tier="10m") == ()
        assert damaged(SeriesKey("pod", "never", "seen")) == ()
        assert store.read(cluster, POD, "cpu_mc", "1m", START, START + DAY).t[0] == START + HOUR
    store.write(cluster, STREAM, Batch(rows=[row(POD, START + 60, cpu_mc=4)]))
    assert damaged() == ((START, START + 60), (START + 120, START + HOUR))
    store.expire(cluster, "pod", "1m", START + HOUR)
    assert damaged() == ()


def test_late_data_is_kept_beside_a_damaged_chunk(store, path):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(6))
    store.maintain(START + 6 * HOUR)
    damage(path)
    store.write(cluster, STREAM, Batch(rows=[row(POD, START + 60, cpu_mc=4)]))
    assert store.read(cluster, POD, "cpu_mc", "1m", START, START + HOUR).total == [4]
    assert store.read(cluster, POD, "cpu_mc", "1h", START, START + HOUR).n == [60]
    assert "damaged" in store.maintain(START + 6 * HOUR)
    assert store.warnings() == ["1 damaged chunks are left out of answers: see the log"]
    assert store.read(cluster, POD, "cpu_mc", "1m", START, START + HOUR).total == [4]
    assert "damaged" in store.check()
    store.expire(cluster, "pod", "1m", START + 3 * HOUR)
    assert store.check() == "ok"
    assert store.warnings() == []


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


# Minutes in several hours, days and ten-day spans, and near their borders.
TIMES = [
    START + 60 * m
    for m in (0, 1, 59, 60, 61, 125, 600, 1439, 1440, 1500, 14_399, 14_400, 14_460, 20_000)
]
ROWS = st.sampled_from(KEYS).flatmap(
    lambda key: st.builds(
        MinuteRow,
        ts=st.sampled_from(TIMES),
        key=st.just(key),
        cells=st.lists(
            st.none()
            | st.integers(0, 99).map(lambda v: Cell(1 + v % 3, v * (1 + v % 3), v, v + 1)),
            min_size=len(FIELD_NAMES[key.kind]),
            max_size=len(FIELD_NAMES[key.kind]),
        ).map(tuple),
    )
)
COARSE = st.sampled_from(KEYS).flatmap(
    lambda key: st.builds(
        lambda ts, tier, n, value: CoarseRow(
            tier,
            ts - ts % TIERS[tier],
            key,
            tuple(Cell(n, n * value, None, value) for _ in FIELD_NAMES[key.kind]),
        ),
        st.sampled_from(TIMES),
        st.sampled_from(["10m", "1h"]),
        st.sampled_from([1, 5, 10]),
        st.integers(0, 99),
    )
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(ROWS, max_size=20), st.lists(COARSE, max_size=3)),
        st.tuples(st.just("seal"), st.sampled_from([0, 3 * HOUR, 2 * DAY, 25 * DAY])),
        st.tuples(
            st.just("expire"),
            st.sampled_from(list(FIELD_NAMES)),
            st.sampled_from(list(TIERS)),
            st.sampled_from([*TIMES, START + 40 * DAY]),
        ),
        st.tuples(st.just("forget"), st.sampled_from(TIMES)),
    ),
    min_size=2,
    max_size=8,
)


def assert_alike(stores, ask):
    first, *others = (ask(store) for store in stores)
    for other in others:
        assert other == first


def counts(store, cluster):
    """Return how many rows there are of each kind and tier, and their checksums."""
    span = (START - DAY, START + 40 * DAY)
    return {
        (kind, tier): store.counts(cluster, kind, tier, *span)
        for kind in FIELD_NAMES
        for tier in TIERS
    }


@contextmanager
def rolled_up_at_once(wanted):
    """Let a store recompute every touched bucket in each write, as if none were open."""
    touch = rollup.touch
    end = 1 << 40
    with patch.object(rollup, "touch", lambda *a: touch(*a[:3], end if wanted else a[3])):
        yield


@settings(
    max_examples=examples(15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_sealed_or_not_makes_no_difference_to_any_read(tmp_path, steps):
    cluster = uuid4()
    names = ("sealed", "plain", "eager")
    stores = [SqliteStore(tmp_path / f"{cluster}-{name}") for name in names]
    for step in steps:
        for store in stores:
            match step:
                case "write", rows, wider:
                    with rolled_up_at_once(store is stores[2]):
                        store.write(cluster, STREAM, Batch(rows=rows, coarse=wider))
                case "seal", later if store is stores[0]:
                    store.maintain(max(TIMES) + later)
                case "expire", kind, tier, before:
                    store.expire(cluster, kind, tier, before)
                case "forget", before:
                    store.forget(cluster, before)
        assert_alike(stores, lambda store: counts(store, cluster))
    assert_alike(stores, lambda store: everything(store, cluster))
    for store in stores:
        assert store.check() == "ok"
        store.close()
