"""Backups of the SQLite store while it is written to, its shards, and its free space."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from uuid import UUID, uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import SeriesKey
from metrics.stores import StoreError, close_stores, get_store
from metrics.stores.sqlite.backup import back_up, compact, free_space
from metrics.stores.sqlite.shards import ShardedStore
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from opscenter.core.shards import shard_paths
from tests.metrics.stores import writer
from tests.metrics.stores.contract import STREAM, StoreContract, row
from tests.metrics.stores.sqlite.sealing import START, everything, hours
from tests.metrics.stores.sqlite.test_store import assert_whole, start_writer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.sqlite3"


@pytest.fixture
def store(path):
    made = SqliteStore(path)
    yield made
    made.close()


class TestShards(StoreContract):
    @pytest.fixture
    def new_store(self, path):
        made = []

        def new():
            made.append(ShardedStore(shard_paths(path, 3)))
            return made[-1]

        yield new
        for store in made:
            store.close()


@pytest.mark.usefixtures("starts_servers")
def test_a_backup_taken_during_writes_restores_into_a_working_store(path, store, tmp_path):
    clusters = [uuid4() for _ in range(2)]
    processes = [start_writer(path, cluster, 100_000) for cluster in clusters]
    try:
        for process in processes:
            for _ in range(30):
                process.stdout.readline()
        backups = [tmp_path / f"backup-{at}" for at in range(3)]
        for target in backups:
            assert back_up([path], target) > 0
            taken = store.position(clusters[0], STREAM).watermark
            while store.position(clusters[0], STREAM).watermark == taken:
                processes[0].stdout.readline()
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    reached = []
    for target in backups:
        assert [copy.name for copy in target.iterdir()] == [path.name]
        assert (target / path.name).stat().st_mode & 0o077 == 0
        restored = SqliteStore(target / path.name)
        assert restored.check() == "ok"
        for cluster in clusters:
            assert_whole(restored, cluster)
            restored.write(
                cluster, STREAM, writer.batch(restored.position(cluster, STREAM).watermark)
            )
            assert_whole(restored, cluster)
        reached.append(restored.position(clusters[0], STREAM).watermark)
        restored.close()
    assert reached == sorted(set(reached))


def test_a_backup_with_sealed_hours_reads_the_same(path, store, tmp_path):
    cluster = uuid4()
    store.write(cluster, STREAM, hours(6))
    store.maintain(START + 86_400)
    before = everything(store, cluster)
    back_up([path], tmp_path / "backup")
    store.erase(cluster)
    store.close()
    shutil.copy(tmp_path / "backup" / path.name, path)
    again = SqliteStore(path)
    assert everything(again, cluster) == before
    again.close()


def test_a_backup_replaces_nothing_and_leaves_nothing_half_done(path, store, tmp_path):
    with pytest.raises(StoreError, match="nothing to back up"):
        back_up([path], tmp_path / "backup")
    store.write(uuid4(), STREAM, hours(1))
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        back_up([path], tmp_path / "there")
    with pytest.raises(StoreError, match="No such file"):
        back_up([path], tmp_path / "no" / "parent")
    damaged = tmp_path / "metrics-damaged.sqlite3"
    damaged.write_bytes(path.read_bytes()[:8192] + b"x" * 40_000)
    with pytest.raises(StoreError, match="metrics-damaged"):
        back_up([damaged], tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
    assert back_up([path], tmp_path / "backup")
    assert not list(tmp_path.glob("*.part/metrics.sqlite3"))


def test_the_command_backs_up_every_shard(settings, tmp_path, capsys):
    settings.METRICS_SQLITE_PATH = tmp_path / "metrics.sqlite3"
    settings.METRICS_SHARDS = 2
    close_stores()
    for number in range(4):
        get_store().write(UUID(int=number), STREAM, hours(1))
    call_command("backup_metrics", str(tmp_path / "backup"))
    names = {copy.name for copy in (tmp_path / "backup").iterdir()}
    assert names == {"metrics-1-of-2.sqlite3", "metrics-2-of-2.sqlite3"}
    assert "checked" in capsys.readouterr().out
    restored = ShardedStore(shard_paths(tmp_path / "backup" / "metrics.sqlite3", 2))
    assert set(restored.clusters()) == {UUID(int=number) for number in range(4)}
    for shard in restored.shards:
        assert len(shard.clusters()) == 2
    restored.close()
    with pytest.raises(SystemExit) as stopped:
        call_command("backup_metrics", str(tmp_path / "backup"))
    assert stopped.value.code == 1
    assert "exists already" in capsys.readouterr().err


def test_the_number_of_shards_cannot_be_changed_once_there_is_data(settings, tmp_path):
    settings.METRICS_SQLITE_PATH = tmp_path / "metrics.sqlite3"
    for written, asked in ((1, 4), (2, 1), (2, 3)):
        settings.METRICS_SHARDS = written
        get_store().write(uuid4(), STREAM, hours(1))
        close_stores()
        settings.METRICS_SHARDS = asked
        message = f"METRICS_SHARDS={asked}, but .* was written with METRICS_SHARDS={written}"
        with pytest.raises(ImproperlyConfigured, match=message):
            get_store()
        settings.METRICS_SHARDS = written
        assert len(list(get_store().clusters())) == 1
        close_stores()
        for found in tmp_path.glob("metrics*"):
            found.unlink()


def test_threads_write_to_all_shards_at_once(path):
    store = ShardedStore(shard_paths(path, 4))
    clusters = [UUID(int=number) for number in range(8)]

    def run(cluster):
        for minute in range(20):
            store.write(cluster, STREAM, writer.batch(writer.START + 60 * minute))

    threads = [threading.Thread(target=run, args=[cluster]) for cluster in clusters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cluster in clusters:
        assert_whole(store, cluster)
    found = store.find(clusters, "pod", "pod-1", limit=5)
    assert [hit[1].key.name for hit in found] == ["pod-1"] * 5
    assert store.check() == "ok"
    store.close()


def fill(store, cluster, series=400):
    keys = [SeriesKey("pod", "ns", f"p{at}") for at in range(series)]
    for minute in range(0, 120, 20):
        rows = [
            row(key, START + 60 * m, **dict.fromkeys(FIELD_NAMES["pod"], hash((at, m)) % 10**12))
            for at, key in enumerate(keys)
            for m in range(minute, minute + 20)
        ]
        store.write(cluster, STREAM, Batch(rows=rows))


def test_an_erasure_gives_all_its_space_back(path, store):
    small, large = uuid4(), uuid4()
    store.write(small, STREAM, hours(1))
    fill(store, large)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    grown = path.stat().st_size
    store.erase(large)
    assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    assert path.stat().st_size < grown / 4
    assert store.check() == "ok"


def test_free_space_beyond_a_reserve_is_given_back(path, store, monkeypatch):
    monkeypatch.setattr("metrics.stores.sqlite.backup._RESERVED_PAGES", 10)
    cluster = uuid4()
    fill(store, cluster)
    for tier in TIERS:
        store.expire(cluster, "pod", tier, START + 86_400)
    connection = sqlite3.connect(path)
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    assert free > 500
    assert "freed" in store.maintain(START + 7200)
    (left,) = connection.execute("PRAGMA freelist_count").fetchone()
    assert left < free / 2
    assert free_space(store._connections) == 0
    connection.close()


def test_a_file_without_incremental_vacuum_is_converted(path, tmp_path):
    store = SqliteStore(path)
    fill(store, uuid4(), series=50)
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum = NONE")
    connection.execute("VACUUM")
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    connection.close()
    store = SqliteStore(path)
    assert "gave" not in store.maintain(START + 7200)
    store.close()
    before, after = compact(path)
    assert after <= before + 8192  # what incremental vacuum notes of each page
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()
