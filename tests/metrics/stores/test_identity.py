"""Whose a store is: judged by its id, else by the clusters that it holds."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM
from metrics.stores.errors import StoreError
from metrics.stores.identity import Ownership, StorePlace, ownership
from metrics.stores.sqlite.shards import ShardedStore
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from opscenter.core.shards import shard_paths
from tests.metrics.stores.contract import T0, row

OURS, OTHER = str(uuid4()), str(uuid4())
MINE, UNKNOWN = uuid4(), uuid4()


def place(identity: str = "", clusters: set[UUID] = frozenset(), **more) -> StorePlace:  # type: ignore[assignment]
    belongs = more.pop("belongs", lambda _: True)
    return StorePlace("x", identity, frozenset(clusters), belongs, **more)


@pytest.mark.parametrize(
    ("where", "with_data", "found"),
    [
        (place(OURS), {MINE}, Ownership.OURS),
        (place(OURS, {UNKNOWN}), {MINE}, Ownership.OURS),
        (place(OTHER), set(), Ownership.FOREIGN),
        (place(OTHER, {MINE}), {MINE}, Ownership.FOREIGN),
        (place("", {MINE, UNKNOWN}), {MINE}, Ownership.ADOPTABLE),
        (place("", {UNKNOWN}), {MINE}, Ownership.FOREIGN),
        (place("", {UNKNOWN}), set(), Ownership.FOREIGN),
        (place(), {MINE}, Ownership.EMPTY),
        (place(), set(), Ownership.ADOPTABLE),
        (place(belongs=lambda _: False), {MINE}, Ownership.ADOPTABLE),
        (place(OURS, replaced=True), {MINE}, Ownership.REPLACED),
    ],
)
def test_a_place_is_judged_by_its_id_then_by_its_clusters(where, with_data, found):
    assert ownership(where, OURS, known={MINE}, with_data=with_data) is found


def write(store: SqliteStore | ShardedStore, cluster: UUID) -> None:
    store.write(cluster, STREAM, Batch(rows=[row(SeriesKey("node", "", "n1"), T0)], head=T0 + 60))


@pytest.mark.parametrize("shards", [1, 4])
def test_the_id_is_written_once_into_every_file(tmp_path, shards):
    paths = shard_paths(tmp_path / "metrics.sqlite3", shards)
    store = SqliteStore(paths[0]) if shards == 1 else ShardedStore(paths)
    assert [one.identity for one in store.places([])] == [""] * shards
    assert not any(path.exists() for path in paths), "looking makes no file"
    store.adopt(OURS)
    store.adopt(OTHER)
    assert [one.identity for one in store.places([])] == [OURS] * shards
    write(store, MINE)
    holding = [one for one in store.places([]) if one.clusters]
    assert [one.clusters for one in holding] == [frozenset({MINE})]
    assert [one.belongs(MINE) for one in holding] == [True]
    assert sum(one.belongs(MINE) for one in store.places([])) == 1
    store.close()


def test_a_file_that_is_swapped_or_deleted_while_it_is_used_is_noticed(tmp_path):
    store, other = SqliteStore(tmp_path / "a.sqlite3"), SqliteStore(tmp_path / "b.sqlite3")
    store.adopt(OURS)
    other.adopt(OTHER)
    other.close()
    assert not store.places([])[0].replaced
    (tmp_path / "b.sqlite3").replace(tmp_path / "a.sqlite3")
    (found,) = store.places([])
    assert (found.identity, found.replaced) == ("", True)
    (tmp_path / "a.sqlite3").unlink()
    (found,) = store.places([])
    assert (found.identity, found.replaced) == ("", True)
    store.close()
    assert not store.places([])[0].replaced


def test_a_file_that_is_none_of_ours_is_an_error(tmp_path: Path):
    (tmp_path / "a.sqlite3").write_bytes(b"not a database, whatever its name says" * 40)
    with pytest.raises(StoreError, match="not a SQLite file"):
        SqliteStore(tmp_path / "a.sqlite3").places([])
