"""Reads of sealed hours: the largest, older versions of the file, and chunks that are damaged."""

from __future__ import annotations

import logging
import random
import sqlite3
from uuid import uuid4

import pytest

from metrics.series.rows import Cell, SeriesKey
from metrics.stores.sqlite import schema, sealed
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import KEYS, NODE, POD, STREAM, row
from tests.metrics.stores.sqlite.damage import damage
from tests.metrics.stores.sqlite.sealing import DAY, HOUR, START, count, everything, hours


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.sqlite3"


@pytest.fixture
def store(path):
    made = SqliteStore(path)
    yield made
    made.close()


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
