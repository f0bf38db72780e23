"""Erasing, expiry, copies, upkeep and proofs."""

from __future__ import annotations

from uuid import UUID, uuid4

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, SeriesInfo, SeriesKey
from metrics.series.windows import Position
from metrics.stores import checksum
from metrics.stores.base import MetricStore
from metrics.stores.copier import StoredRow
from metrics.stores.reader import LastRow
from metrics.stores.writer import Batch
from tests.metrics.stores.contract.rows import (
    CLUSTER,
    NODE,
    POD,
    STREAM,
    T0,
    coarse,
    row,
    window,
)


class HousekeepingContract:
    """A part of :class:`~tests.metrics.stores.contract.StoreContract`."""

    def test_an_erased_cluster_starts_from_nothing(self, store, cluster):
        batch = Batch([row(POD, T0, cpu_mc=1)], windows=[window(T0, T0 + 60)], watermark=T0 + 60)
        store.write(cluster, STREAM, batch)
        store.erase(cluster)
        assert store.position(cluster, STREAM) == Position(None, None)
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 60, cpu_mc=2)]))
        assert store.first_seen(cluster, POD) == T0 + 60
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [2]

    def test_expiry_deletes_one_kind_and_tier_of_one_cluster_oldest_first(self, store, cluster):
        other = uuid4()
        rows = [row(NODE, T0 + 60 * m, cpu_mc=m) for m in range(4)]
        for name in (cluster, other):
            store.write(name, STREAM, Batch(rows=rows))
        assert store.expire(cluster, "node", "1m", T0 + 180, limit=2) == 2
        assert store.expire(cluster, "node", "1m", T0 + 180, limit=100) == 1
        assert store.expire(cluster, "node", "1m", T0 + 180) == 0
        assert store.read(cluster, NODE, "cpu_mc", "1m", T0, T0 + 600).t == [T0 + 180]
        assert len(store.read(cluster, CLUSTER, "cpu_mc", "1m", T0, T0 + 600).t) == 4
        assert store.expire(cluster, "cluster", "1m", T0 + 120) == 2
        assert store.read(cluster, NODE, "cpu_mc", "10m", T0, T0 + 600).n == [4]
        assert len(store.read(other, NODE, "cpu_mc", "1m", T0, T0 + 600).t) == 4

    def test_series_of_a_kind_that_is_kept_for_less_are_forgotten_earlier(self, store, cluster):
        batch = Batch(
            rows=[row(POD, T0, cpu_mc=1), row(NODE, T0, cpu_mc=1)],
            windows=[window(T0, T0 + 60)],
        )
        store.write(cluster, STREAM, batch)
        assert store.forget(cluster, T0, {"pod": T0 + 60}) == 1
        assert store.first_seen(cluster, POD) is None
        assert store.first_seen(cluster, NODE) == T0
        assert len(store.windows(cluster, STREAM, 0, T0 + 999)) == 1

    def test_forgetting_drops_old_series_and_ledger_lines_only(self, store, cluster):
        fresh = SeriesKey("pod", "default", "web-2")
        store.write(
            cluster,
            STREAM,
            Batch(
                rows=[row(POD, T0, cpu_mc=1), row(fresh, T0 + 600, cpu_mc=1)],
                windows=[window(T0, T0 + 60), window(T0 + 600, T0 + 660)],
            ),
        )
        assert store.forget(cluster, T0 + 600) == 1
        assert [last.key for last in store.last(cluster, "pod")] == [fresh]
        assert [w.start for w in store.windows(cluster, STREAM, 0, T0 + 999)] == [T0 + 600]
        assert [entry.key for entry in store.series(cluster)] == [fresh]
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 660, cpu_mc=3)]))
        assert store.last_one(cluster, POD).values[0] == 3
        assert store.first_seen(cluster, POD) == T0 + 660

    def test_a_copy_holds_the_same_rows_series_and_last_values(self, store, cluster):
        rows = [
            row(key, T0 + 60 * m, cpu_mc=Cell(3, 3 * m, m - 1, m + at))
            for at, key in enumerate((NODE, POD, SeriesKey("pod", "a", "b")), start=1)
            for m in range(0, 70, at)
        ]
        info = SeriesInfo(POD, "n1", {"phase": "Running"})
        rough = coarse(POD, "1h", T0 + 7200, cpu_mc=Cell(60, 60, None, 2))
        store.write(cluster, STREAM, Batch(rows=rows, infos=[info], coarse=[rough]))
        copy = uuid4()
        store.put_series(copy, store.series(cluster))
        for kind in FIELD_NAMES:
            for tier in TIERS:
                scanned = list(store.scan(cluster, kind, tier, T0, T0 + 86_400))
                assert scanned == sorted(scanned, key=lambda stored: stored[:2])
                assert store.load(copy, kind, tier, scanned) == len(scanned)
                assert store.load(copy, kind, tier, scanned) == len(scanned)
                found = store.counts(copy, kind, tier, T0, T0 + 86_400)
                assert found == store.counts(cluster, kind, tier, T0, T0 + 86_400)
                assert found == (len(scanned), checksum.add(scanned))
            store.put_last(copy, store.last(cluster, kind))
            assert sorted(store.last(copy, kind), key=lambda last: last.key) == sorted(
                store.last(cluster, kind), key=lambda last: last.key
            )
        assert store.series(copy) == store.series(cluster)
        for entry in store.series(cluster):
            for tier in TIERS:
                span = (entry.key, "cpu_mc", tier, T0, T0 + 86_400)
                assert store.read(copy, *span) == store.read(cluster, *span)

    def test_counting_takes_a_half_open_range_and_notices_any_change(self, store, cluster):
        store.write(cluster, STREAM, Batch([row(POD, T0 + 60 * m, cpu_mc=m) for m in range(5)]))
        assert store.counts(cluster, "pod", "1m", T0 + 1, T0 + 180)[0] == 2
        before = store.counts(cluster, "pod", "1m", T0, T0 + 300)
        other = [StoredRow(T0, POD, 1, row(POD, T0, cpu_mc=9).cells)]
        store.load(cluster, "pod", "1m", other)
        after = store.counts(cluster, "pod", "1m", T0, T0 + 300)
        assert (after[0], after[1] != before[1]) == (5, True)
        worse = [StoredRow(T0, POD, 0, row(POD, T0, cpu_mc=1).cells)]
        store.load(cluster, "pod", "1m", worse)
        assert store.counts(cluster, "pod", "1m", T0, T0 + 300) == after

    def test_loading_makes_no_rollups_and_what_is_newer_stays(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 60, cpu_mc=2)]))
        stored = [StoredRow(T0, POD, 1, row(POD, T0, cpu_mc=1).cells)]
        store.load(cluster, "pod", "1m", stored)
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).n == [1]
        old = LastRow(POD, T0, "elsewhere", {}, (1, *[None] * 6))
        store.put_last(cluster, [old])
        assert store.last_one(cluster, POD).values[0] == 2
        new = LastRow(POD, T0 + 120, "n2", {"phase": "Failed"}, (3, *[None] * 6))
        store.put_last(cluster, [new])
        assert store.last_one(cluster, POD) == new

    def test_maintenance_says_what_it_did_and_changes_no_answer(self, store, cluster):
        rows = [row(key, T0 + 60 * m, cpu_mc=m) for m in range(200) for key in (NODE, POD)]
        store.write(cluster, STREAM, Batch(rows=rows))
        before = self.everything(store, cluster)
        assert "\n" not in store.maintain(T0 + 86_400)
        assert store.maintain(T0 + 86_400)
        assert self.everything(store, cluster) == before

    def test_check_says_ok(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=1)]))
        assert store.check() == "ok"

    def test_the_proof_of_a_write_leaves_no_trace_in_any_answer(self, store):
        cluster = uuid4()
        store.prove_writable(T0, seconds=5)
        store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=1)]))
        before = self.everything(store, cluster), list(store.clusters())
        store.prove_writable(T0 + 15, seconds=5)
        store.prove_writable(T0 + 30, seconds=5)
        assert (self.everything(store, cluster), list(store.clusters())) == before

    def everything(self, store: MetricStore, cluster: UUID) -> list[object]:
        """Return all that the store says of the cluster's first hours."""
        found: list[object] = [store.position(cluster, STREAM)]
        found.append(store.windows(cluster, STREAM, 0, T0 + 99_999))
        for kind, names in FIELD_NAMES.items():
            found.append(store.last(cluster, kind))
            for field in names:
                found.extend(
                    store.read_many(cluster, kind, field, tier, T0 - 3600, T0 + 86_400)
                    for tier in TIERS
                )
        return found
