"""Copies between metric stores: everything, again, and after a death in the middle."""

from __future__ import annotations

from uuid import uuid4

import pytest

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, SeriesInfo, SeriesKey
from metrics.stores import StoreError
from metrics.stores.copying import FAR, Copier
from metrics.stores.influxdb.store import InfluxStore
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import NODE, POD, STREAM, T0, coarse, row, window
from tests.metrics.stores.influxdb.server import keep_for_ever, own_prefix, server

HOSTILE = SeriesKey("pod", "a,b =c\\", "\n\x00é%")


@pytest.fixture(scope="module")
def prefix(starts_servers):
    server()
    yield from own_prefix()


@pytest.fixture
def influx(prefix, db):
    store = InfluxStore(server(), keep_for_ever, prefix=prefix)
    yield store
    store.close()


@pytest.fixture
def files(tmp_path):
    made = [SqliteStore(tmp_path / f"{name}.sqlite3") for name in ("one", "two")]
    yield made
    for store in made:
        store.close()


def filled(store, minutes=150):
    """Write hours of rows, coarse ones, a ledger with a gap and a position; return the cluster."""
    cluster = uuid4()
    rows = [
        row(key, T0 + 60 * m, cpu_mc=Cell(2, 2 * m, m - 1, m + at))
        for at, key in enumerate((NODE, POD, HOSTILE), start=1)
        for m in range(0, minutes, at)
    ]
    infos = [SeriesInfo(POD, "n1", {"phase": "Running"})]
    lines = [window(T0, T0 + 600), window(T0 + 600, T0 + 1200, "gap", detail="no route")]
    rough = [coarse(POD, "1h", T0 - 7200, cpu_mc=Cell(60, 60, None, 2))]
    store.write(cluster, STREAM, Batch(rows, infos, lines, T0 + 600, T0 + 9000, rough))
    return cluster


def everything(store, cluster):
    found = [store.position(cluster, STREAM), store.windows(cluster, STREAM, 0, FAR)]
    found.append(store.series(cluster))
    for kind in FIELD_NAMES:
        found.append(sorted(store.last(cluster, kind), key=lambda last: last.key))
        found += [list(store.scan(cluster, kind, tier, 0, FAR)) for tier in TIERS]
    return found


def copy(source, target, cluster, **options):
    copier = Copier(source, target, lambda *_: 0, **options)
    tallies = list(copier.cluster(cluster, [STREAM]))
    return tallies, copier.differences(cluster, [STREAM])


def there_and_back(one, other, again):
    cluster = filled(one)
    tallies, differences = copy(one, other, cluster)
    assert differences == []
    assert sum(t.copied for t in tallies) == sum(t.rows for t in tallies) > 300
    assert sum(t.missing + t.better for t in tallies) == 0
    assert everything(other, cluster) == everything(one, cluster)
    tallies, _ = copy(one, other, cluster)
    assert sum(t.copied for t in tallies) == 0
    assert sum(t.there for t in tallies) == sum(t.rows for t in tallies)
    tallies, differences = copy(other, again, cluster)
    assert (sum(t.missing for t in tallies), differences) == (0, [])
    assert everything(again, cluster) == everything(one, cluster)


def test_one_file_into_another_and_on(files, tmp_path):
    there_and_back(files[0], files[1], SqliteStore(tmp_path / "three.sqlite3"))


def test_a_file_into_influxdb_and_back(files, influx):
    there_and_back(files[0], influx, files[1])


class Dying(SqliteStore):
    """A store that stops taking rows after some loads, as a killed copy would leave it."""

    loads = 4

    def load(self, *args):
        if not self.loads:
            raise StoreError("killed")
        self.loads -= 1
        return super().load(*args)


def test_a_copy_that_died_goes_on_where_it_stopped(files, tmp_path):
    target = Dying(tmp_path / "dying.sqlite3")
    cluster = filled(files[0])
    with pytest.raises(StoreError, match="killed"):
        copy(files[0], target, cluster)
    assert target.position(cluster, STREAM).watermark is None
    target.loads = -1
    tallies, differences = copy(files[0], target, cluster)
    assert differences == []
    assert sum(t.there for t in tallies) > 0
    assert sum(t.copied for t in tallies) > 0
    assert everything(target, cluster) == everything(files[0], cluster)


def test_a_comparison_writes_nothing_and_says_what_is_missing(files):
    cluster = filled(files[0])
    tallies, differences = copy(files[0], files[1], cluster, only_check=True)
    assert sum(t.missing for t in tallies) == sum(t.rows for t in tallies)
    assert differences == [
        "4 series are missing",
        "1 newest cluster values are missing",
        "1 newest node values are missing",
        "2 newest pod values are missing",
        "the watermark is behind",
        "the head is behind",
        "2 windows of the ledger are missing or behind",
    ]
    assert files[1].clusters() == []


def test_what_is_better_in_the_target_stays(files):
    cluster = filled(files[0])
    better = row(POD, T0, cpu_mc=Cell(9, 900, 100, 100))
    files[1].write(cluster, STREAM, Batch(rows=[better], watermark=T0 + 60_000, head=T0 + 60_000))
    tallies, differences = copy(files[0], files[1], cluster)
    assert differences == []
    assert [(t.kind, t.tier, t.better) for t in tallies if t.better] == [("pod", "1m", 1)]
    assert files[1].read(cluster, POD, "cpu_mc", "1m", T0, T0 + 60).total == [100]
    assert files[1].position(cluster, STREAM).watermark == T0 + 60_000


def test_a_gap_that_is_filled_on_one_side_is_filled_on_both_afterwards(files):
    one, other = files
    cluster = filled(one)
    copy(one, other, cluster)
    gap = one.windows(cluster, STREAM, T0 + 600, T0 + 660)[0]
    full = window(gap.start, gap.end, attempts=2, filled_at=T0 + 9000, reason="tunnel_down")
    other.write(cluster, STREAM, Batch(windows=[full]))
    assert copy(one, other, cluster)[1] == []
    assert other.windows(cluster, STREAM, gap.start, gap.end) == [full]
    _, differences = copy(other, one, cluster, only_check=True)
    assert differences == ["1 windows of the ledger are missing or behind"]
    assert copy(other, one, cluster)[1] == []
    assert one.windows(cluster, STREAM, gap.start, gap.end) == [full]


def test_what_has_expired_is_not_copied(files):
    cluster = filled(files[0])
    copier = Copier(files[0], files[1], lambda _, __, tier: T0 + 3600 if tier == "1m" else 0)
    list(copier.cluster(cluster, [STREAM]))
    assert copier.differences(cluster, [STREAM]) == []
    assert files[1].read(cluster, POD, "cpu_mc", "1m", 0, FAR).t[0] == T0 + 3600
    assert files[1].read(cluster, POD, "cpu_mc", "10m", 0, FAR).t[0] == T0
