"""The SQLite store: the contract, and what is special about a file and many processes."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from uuid import uuid4

import pytest

from metrics.series.catalog import TIERS
from metrics.series.rows import SeriesKey
from metrics.stores import StoreError
from metrics.stores.sqlite import schema, series
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.centre import ROOT
from tests.metrics.stores import writer
from tests.metrics.stores.contract import (
    CLUSTER,
    NODE,
    POD,
    STREAM,
    T0,
    StoreContract,
    cell,
    row,
    window,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.sqlite3"


@pytest.fixture
def new_store(path):
    made = []

    def new():
        made.append(SqliteStore(path))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(new_store):
    return new_store()


class TestSqlite(StoreContract):
    @pytest.fixture
    def new_store(self, new_store):
        return new_store


def start_writer(path, cluster, minutes):
    command = [
        sys.executable,
        "-m",
        "tests.metrics.stores.writer",
        path,
        str(cluster),
        str(minutes),
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def assert_whole(store, cluster):
    """Assert that every minute up to the watermark is stored once, in every tier."""
    position = store.position(cluster, STREAM)
    minutes = (position.watermark - writer.START) // 60
    assert position.head == position.watermark
    pods = (writer.pod(0), writer.pod(writer.PODS - 1))
    for key in (writer.NODE, *pods, CLUSTER):
        for tier in TIERS:
            columns = store.read(cluster, key, "cpu_mc", tier, 0, 2**33)
            assert sum(columns.n) == minutes, (key, tier)
            assert sum(columns.total) == sum(range(minutes)), (key, tier)
        assert store.last_one(cluster, key).ts == position.watermark - 60
    lines = store.windows(cluster, STREAM, 0, 2**40)
    assert sum(line.got for line in lines) == minutes


@pytest.mark.usefixtures("starts_servers")
def test_a_killed_writer_leaves_whole_minutes_and_a_true_watermark(path, new_store):
    cluster = uuid4()
    moments = random.Random(5)
    committed = 0
    for _ in range(10):
        process = start_writer(path, cluster, 100_000)
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        said = [int(line) for line in process.communicate()[0].split()]
        store = new_store()
        assert store.check() == "ok"
        watermark = store.position(cluster, STREAM).watermark
        # What was said to be stored is stored; one commit may have gone unsaid.
        assert watermark >= max([committed, *said])
        assert_whole(store, cluster)
        committed = watermark
        store.close()
    assert committed > writer.START + 600


@pytest.mark.usefixtures("starts_servers")
def test_four_writing_processes_and_a_reader_never_meet_a_locked_file(path, store):
    clusters = [uuid4() for _ in range(4)]
    # All of them find no file yet, and make it at the same time.
    processes = [start_writer(path, cluster, 60) for cluster in clusters]
    while any(process.poll() is None for process in processes):
        for cluster in clusters:
            store.last(cluster, "pod")
            store.read(cluster, writer.NODE, "cpu_mc", "1m", writer.START, writer.START + 3600)
    for process in processes:
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
    for cluster in clusters:
        assert store.position(cluster, STREAM).watermark == writer.START + 3600
        assert_whole(store, cluster)
    assert store.check() == "ok"


def test_the_same_batches_again_in_any_order_leave_every_table_as_it_was(path, store):
    def everything():
        connection = sqlite3.connect(path)
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        query = "SELECT * FROM {} ORDER BY 1, 2"
        rows = {name: connection.execute(query.format(name)).fetchall() for (name,) in names}
        connection.close()
        return rows

    cluster = uuid4()
    batches = [writer.batch(writer.START + 60 * minute) for minute in range(15)]
    for batch in batches:
        store.write(cluster, STREAM, batch)
    before = everything()
    for batch in reversed(batches):
        store.write(cluster, STREAM, batch)
    assert everything() == before


def test_threads_of_one_process_share_a_store(store):
    clusters = [uuid4() for _ in range(8)]
    failures = []

    def run(cluster):
        try:
            for minute in range(20):
                store.write(cluster, STREAM, writer.batch(writer.START + 60 * minute))
                store.last(cluster, "pod")
        except StoreError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=[cluster]) for cluster in clusters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for cluster in clusters:
        assert_whole(store, cluster)


@pytest.mark.usefixtures("starts_servers")
def test_a_store_works_on_both_sides_of_a_fork(store):
    cluster = uuid4()
    store.write(cluster, STREAM, writer.batch(writer.START))
    child = os.fork()
    if child == 0:
        try:
            store.write(cluster, STREAM, writer.batch(writer.START + 60))
        finally:
            os._exit(0 if store.position(cluster, STREAM).watermark == writer.START + 120 else 1)
    assert os.waitpid(child, 0)[1] == 0
    store.write(cluster, STREAM, writer.batch(writer.START + 120))
    assert_whole(store, cluster)
    assert store.check() == "ok"


def test_two_processes_may_erase_and_write_in_turn(new_store):
    one, two = new_store(), new_store()
    cluster = uuid4()
    one.write(cluster, STREAM, writer.batch(writer.START))
    two.erase(cluster)
    one.write(cluster, STREAM, writer.batch(writer.START + 60))
    assert one.first_seen(cluster, writer.NODE) == writer.START + 60
    two.forget(cluster, writer.START + 600)
    one.write(cluster, STREAM, writer.batch(writer.START + 660))
    assert two.last_one(cluster, writer.NODE).ts == writer.START + 660
    assert len(two.last(cluster, "pod")) == writer.PODS


def test_a_series_belongs_to_its_cluster_after_a_refused_batch(store):
    cluster = uuid4()
    bad = Batch(rows=[row(POD, T0, cpu_mc=1)], windows=[None])
    with pytest.raises(AttributeError):
        store.write(cluster, STREAM, bad)
    store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=1)]))
    assert store.last(cluster, "pod") == []
    store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=2)]))
    assert store.last_one(cluster, POD).values[0] == 2


def test_new_series_beyond_the_daily_limit_are_skipped_and_the_rest_is_stored(store, monkeypatch):
    monkeypatch.setattr(series, "MAX_NEW_SERIES_PER_DAY", 5)
    cluster = uuid4()
    store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=1)]))  # and the cluster's own
    flood = [row(SeriesKey("pod", "x", f"{i}"), T0, cpu_mc=1) for i in range(10)]
    result = store.write(cluster, STREAM, Batch(rows=[*flood, row(NODE, T0 + 60, cpu_mc=2)]))
    assert result.skipped_rows == 7
    assert "more than 5 new series in a day" in result.detail
    assert len(store.last(cluster, "pod")) == 3
    assert store.last_one(cluster, NODE).values[0] == 2
    assert store.write(uuid4(), STREAM, Batch(rows=flood[:5])).skipped_rows == 0


def test_an_erasure_that_was_cut_off_is_finished_later(store, monkeypatch):
    cluster, other = uuid4(), uuid4()
    for name in (cluster, other):
        store.write(name, STREAM, writer.batch(writer.START))
    connection = store._connections.get()
    connection.execute("UPDATE cluster SET uuid = NULL WHERE uuid = ?", (str(cluster),))
    store.forget(other, 0)
    assert connection.execute("SELECT count(*) FROM cluster").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM pod_1m").fetchone() == (writer.PODS,)
    assert_whole(store, other)


def test_a_new_field_of_the_catalogue_gets_its_columns(path, new_store, monkeypatch):
    cluster = uuid4()
    old = {**schema.FIELD_NAMES, "pod": schema.FIELD_NAMES["pod"][:-1]}
    with monkeypatch.context() as patch:
        patch.setattr(schema, "FIELD_NAMES", old)
        store = new_store()
        assert store.clusters() == []
        store.close()
    store = new_store()
    store.write(cluster, STREAM, Batch(rows=[row(POD, T0, restarts=3)]))
    assert store.read(cluster, POD, "restarts", "1h", T0, T0 + 60).total == [3]
    assert store.last_one(cluster, POD).values[-1] == 3


def make_version_1(path):
    """Make a file as version 1 of the schema had it, with a ledger line."""
    connection = sqlite3.connect(path, isolation_level=None)
    schema._run(connection, schema._BASE)
    for table, columns in schema.tables().items():
        schema._ensure_table(connection, table, columns)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    return connection


def test_a_file_of_version_1_keeps_its_data(path, new_store):
    cluster = uuid4()
    connection = make_version_1(path)
    connection.execute("INSERT INTO cluster(id, uuid, next_number) VALUES(1, ?, 1)", [str(cluster)])
    connection.execute(
        "INSERT INTO pull_window VALUES(1, 'agent', ?, ?, 'done', 10, 10, 1, '', '', NULL)",
        (T0, T0 + 600),
    )
    connection.execute(
        "INSERT INTO series(sid, cluster, kind, ns, name, first_ts) VALUES(?, 1, 3, ?, ?, ?)",
        (1 << 24, POD.ns, POD.name, T0),
    )
    for minute in range(10):
        connection.execute(
            "INSERT INTO pod_1m(ts, sid, n, cpu_mc, cpu_mc_h) VALUES(?, ?, 4, 5, 7)",
            (T0 + 60 * minute, 1 << 24),
        )
    connection.close()
    store = new_store()
    assert store.windows(cluster, STREAM, T0, T0 + 600) == [window(T0, T0 + 600)]
    assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 600).high == [7] * 10
    store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 540, cpu_mc=cell(25, n=4))]))
    assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).total == [70]
    assert store.check() == "ok"


def test_a_file_of_a_newer_version_is_left_alone(path, new_store):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match="upgrade Ops Center"):
        new_store().clusters()


def test_a_file_of_something_else_is_left_alone(path, new_store):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes(name)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        new_store().clusters()


def test_the_file_is_its_owners_only(path, store):
    store.clusters()
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_cannot_be_made_names_itself(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    store = SqliteStore(tmp_path / "file" / "metrics.sqlite3")
    with pytest.raises(StoreError, match=r"metrics\.sqlite3: it cannot be opened"):
        store.write(uuid4(), STREAM, Batch())
    assert "cannot be opened" in store.check()


def test_a_damaged_file_says_what_to_do(path, new_store):
    store = new_store()
    cluster = uuid4()
    for minute in range(30):
        store.write(cluster, STREAM, writer.batch(writer.START + 60 * minute))
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(random.Random(1).randbytes(size - 4096 * 4))
    store = new_store()
    assert str(path) in store.check()
    with pytest.raises(StoreError, match="it is damaged: stop Ops Center"):
        store.write(cluster, STREAM, writer.batch(writer.START + 60 * 31))


def test_a_full_disk_loses_the_batch_only_and_goes_on_when_there_is_space(path, store):
    cluster = uuid4()
    store.write(cluster, STREAM, writer.batch(writer.START))
    with store._connections.transaction() as connection:  # the one that writes
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill():
        for minute in range(1, 500):
            store.write(cluster, STREAM, writer.batch(writer.START + 60 * minute))

    with pytest.raises(StoreError, match="the disk is full: free some space"):
        fill()
    assert_whole(store, cluster)
    connection.execute("PRAGMA max_page_count = 4294967294")
    store.write(cluster, STREAM, writer.batch(store.position(cluster, STREAM).watermark))
    assert_whole(store, cluster)
    assert store.check() == "ok"


def test_the_largest_are_the_same_as_when_all_series_are_added_up(store):
    draw = random.Random(9)
    clusters = [uuid4() for _ in range(3)]
    keys = [SeriesKey("pod", "ns", f"p{at}") for at in range(60)]
    for cluster in clusters:
        rows = [
            row(
                key, T0 + 60 * m, cpu_mc=draw.randrange(10 ** draw.randrange(1, 5)), restarts=at % 2
            )
            for at, key in enumerate(keys)
            for m in range(30)
            if draw.random() < 0.9
        ]
        store.write(cluster, STREAM, Batch(rows=rows))
    for tier, field in (("1m", "cpu_mc"), ("1m", "restarts"), ("10m", "cpu_mc")):
        span = (tier, T0 + 120, T0 + 1500)
        added = [
            (cluster, key, sum(c.n), sum(c.total), max(c.high))
            for cluster in clusters[:2]
            for key, c in store.read_many(cluster, "pod", field, *span).items()
        ]
        for by, worth in (("mean", lambda e: e[3] / e[2]), ("max", lambda e: e[4])):
            added.sort(key=lambda e, worth=worth: (-worth(e), e[1].ns, e[1].name, e[0]))
            for limit in (1, 7, 200):
                found = store.top(clusters[:2], "pod", field, *span, limit=limit, by=by)
                assert found == added[:limit]
