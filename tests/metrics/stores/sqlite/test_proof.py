"""The proof that the SQLite store takes writes fails when, and only when, a pull's write would."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from uuid import uuid4

import pytest

from metrics.stores import StoreError
from metrics.stores.sqlite.shards import ShardedStore
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from opscenter.core.write_checks import refusal
from tests.metrics.stores.contract import NODE, STREAM, T0, row


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.sqlite3"


@pytest.fixture
def store(path):
    one = SqliteStore(path)
    yield one
    one.close()


@contextmanager
def locked(path):
    """Hold the file's lock, as another process would."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("ROLLBACK")
    other.close()


def test_a_new_file_takes_writes(store):
    store.prove_writable(T0, seconds=5)


def test_a_locked_file_takes_none_and_is_whole_again_afterwards(path, store):
    store.prove_writable(T0, seconds=5)
    with locked(path), pytest.raises(StoreError) as caught:
        store.prove_writable(T0 + 15, seconds=0.1)
    assert refusal(caught.value) == "it is locked by another process"
    store.prove_writable(T0 + 30, seconds=5)


def test_the_proof_leaves_pulls_their_own_patience(path, store):
    store.prove_writable(T0, seconds=0.1)
    with store._connections.transaction() as connection:
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (30_000,)


def test_a_file_that_became_read_only_takes_no_writes(store):
    store.prove_writable(T0, seconds=5)
    with store._connections.transaction() as connection:  # the one that writes
        connection.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreError) as caught:
        store.prove_writable(T0 + 15, seconds=5)
    assert refusal(caught.value) == "it is read-only"


def test_a_file_that_was_moved_while_it_is_open_takes_none(path, store):
    store.prove_writable(T0, seconds=5)
    path.rename(path.with_suffix(".away"))
    with pytest.raises(StoreError) as caught:
        store.prove_writable(T0 + 15, seconds=5)
    assert refusal(caught.value) == "its file was moved or deleted"
    path.with_suffix(".away").rename(path)
    store.prove_writable(T0 + 30, seconds=5)


def test_a_file_that_was_replaced_while_it_is_open_takes_none(path, store):
    store.prove_writable(T0, seconds=5)
    other = SqliteStore(path.with_suffix(".copy"))
    other.prove_writable(T0, seconds=5)
    other.close()
    for each in path.parent.glob(f"{path.name}-*"):
        each.unlink()  # the log of what was there before
    path.with_suffix(".copy").rename(path)
    with pytest.raises(StoreError) as caught:
        store.prove_writable(T0 + 15, seconds=5)
    assert refusal(caught.value) == "its file was replaced"


def test_one_locked_shard_of_several_is_enough(tmp_path):
    paths = [tmp_path / f"metrics-{at}-of-3.sqlite3" for at in (1, 2, 3)]
    store = ShardedStore(paths)
    store.prove_writable(T0, seconds=5)
    with locked(paths[1]), pytest.raises(StoreError, match="metrics-2-of-3"):
        store.prove_writable(T0 + 15, seconds=0.1)
    store.close()


def test_a_pull_that_never_ends_its_write_is_no_proof(store):
    store.prove_writable(T0, seconds=5)
    holding, release = threading.Event(), threading.Event()

    def hold():
        with store._connections.write_lock:
            holding.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(30)
    with pytest.raises(StoreError, match="no write was finished"):
        store.prove_writable(T0 + 15, seconds=0.1)
    release.set()
    thread.join()


def test_a_pull_that_commits_while_the_proof_waits_is_one(store):
    store.prove_writable(T0, seconds=5)
    holding, proven, cluster = threading.Event(), threading.Event(), uuid4()

    def write():
        with store._connections.write_lock:
            holding.set()
            while not proven.is_set():
                store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=1)]))

    thread = threading.Thread(target=write)
    thread.start()
    holding.wait(30)
    try:
        store.prove_writable(T0 + 15, seconds=2)
    finally:
        proven.set()
        thread.join()
