"""Reads: ranges, fields, lists over clusters, and what is not there."""

from __future__ import annotations

from uuid import uuid4

import pytest

from metrics.series.catalog import TIERS
from metrics.series.rows import Cell, SeriesKey
from metrics.series.windows import Position
from metrics.stores import StoreError
from metrics.stores.reader import TopRow
from metrics.stores.writer import Batch
from tests.metrics.stores.contract.rows import (
    CLUSTER,
    NODE,
    POD,
    STREAM,
    T0,
    coarse,
    row,
)


class ReadingContract:
    """A part of :class:`~tests.metrics.stores.contract.StoreContract`."""

    def test_an_unknown_series_is_empty_everywhere(self, store, cluster):
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 60).t == []
        assert store.read_many(cluster, "pod", "cpu_mc", "1m", T0, T0 + 60) == {}
        assert store.last_one(cluster, POD) is None
        assert store.first_seen(cluster, POD) is None
        assert store.position(cluster, STREAM) == Position(None, None)
        assert store.windows(cluster, STREAM, 0, T0) == []
        assert store.expire(cluster, "pod", "1m", T0) == 0
        assert store.read_fields(cluster, POD, ["cpu_mc"], "1m", T0, T0 + 60)["cpu_mc"].t == []
        assert store.top([cluster], "pod", "cpu_mc", "1m", T0, T0 + 60, limit=5) == []
        assert store.counts(cluster, "pod", "1m", T0, T0 + 60) == (0, 0)
        assert list(store.scan(cluster, "pod", "1m", T0, T0 + 60)) == []
        assert store.series(cluster) == []

    def test_an_unknown_field_or_tier_is_an_error_not_a_query(self, store, cluster):
        for field, tier in (("cpu_mc, 1", "1m"), ("cpu_mc", "2m"), ("nodes_total", "1m")):
            with pytest.raises(StoreError, match="no pod field"):
                store.read(cluster, POD, field, tier, T0, T0 + 60)
            with pytest.raises(StoreError, match="no pod field"):
                store.read_fields(cluster, POD, [field], tier, T0, T0 + 60)
            with pytest.raises(StoreError, match="no pod field"):
                store.top([cluster], "pod", field, tier, T0, T0 + 60, limit=1)

    def test_clusters_do_not_see_each_other(self, store, cluster):
        other = uuid4()
        store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=1)], watermark=T0))
        store.write(other, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=2)]))
        assert store.last_one(cluster, NODE).values[0] == 1
        assert store.read(other, CLUSTER, "cpu_mc", "10m", T0, T0 + 60).total == [2]
        assert store.position(other, STREAM) == Position(None, None)
        assert set(store.clusters()) == {cluster, other}
        store.erase(cluster)
        assert store.clusters() == [other]
        assert store.last_one(cluster, NODE) is None
        assert store.last_one(other, NODE).values[0] == 2

    def test_series_are_found_over_clusters_by_a_part_of_the_name(self, store, cluster):
        other, hidden = uuid4(), uuid4()
        for name in (cluster, other, hidden):
            store.write(name, STREAM, Batch(rows=[row(POD, T0, cpu_mc=1)]))
        upper = SeriesKey("pod", "default", "WEB-100%_x")
        store.write(other, STREAM, Batch(rows=[row(upper, T0 + 60, cpu_mc=1)]))
        found = store.find([cluster, other], "pod", "Web-1")
        assert [(c, last.key) for c, last in found] == [
            (other, upper),
            *sorted([(cluster, POD), (other, POD)], key=lambda f: f[0] != cluster),
        ]
        assert [last.key for _, last in store.find([other], "pod", "0%_")] == [upper]
        assert len(store.find([cluster, other], "pod", "default", limit=2)) == 2
        assert store.find([cluster], "pod", "web", since=T0 + 60) == []
        assert store.find([], "pod", "") == []

    def test_one_field_of_all_series_equals_each_series_alone(self, store, cluster):
        keys = [SeriesKey("pod", "ns", f"p{i}") for i in range(3)]
        rows = [
            row(key, T0 + 60 * m, cpu_mc=m * i)
            for i, key in enumerate(keys)
            for m in range(0, 90, i + 1)
        ]
        store.write(cluster, STREAM, Batch(rows=rows))
        for tier in TIERS:
            found = store.read_many(cluster, "pod", "cpu_mc", tier, T0, T0 + 5400)
            assert found == {
                key: store.read(cluster, key, "cpu_mc", tier, T0, T0 + 5400) for key in keys
            }

    def test_a_range_is_half_open_and_may_be_unaligned(self, store, cluster):
        rows = [row(POD, T0 + 60 * m, cpu_mc=m) for m in range(5)]
        store.write(cluster, STREAM, Batch(rows=rows))
        read = store.read(cluster, POD, "cpu_mc", "1m", T0 + 1, T0 + 181)
        assert read.t == [T0 + 60, T0 + 120, T0 + 180]
        assert store.read(cluster, POD, "cpu_mc", "1m", T0 + 1, T0 + 59).t == []
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0).t == []
        assert store.read_many(cluster, "pod", "cpu_mc", "1m", T0 + 1, T0 + 59) == {}

    def test_several_fields_are_read_as_each_alone(self, store, cluster):
        rows = [
            row(POD, T0 + 60 * m, cpu_mc=m, mem_ws=None if m % 3 else m, restarts=1)
            for m in range(0, 100, 2)
        ]
        store.write(cluster, STREAM, Batch(rows=rows))
        fields = ["mem_ws", "cpu_mc", "fs_used", "restarts"]
        for tier in TIERS:
            span = (tier, T0 + 120, T0 + 5000)
            assert store.read_fields(cluster, POD, fields, *span) == {
                field: store.read(cluster, POD, field, *span) for field in fields
            }

    def test_the_largest_are_found_over_clusters_by_mean_or_highest(self, store, cluster):
        other, hidden = uuid4(), uuid4()
        keys = [SeriesKey("pod", "ns", f"p{at}") for at in range(4)]
        for at, name in enumerate((cluster, other, hidden)):
            rows = [
                row(key, T0 + 60 * m, cpu_mc=Cell(2, 2 * value, value - 5, value + 100 // value))
                for value, key in enumerate(keys, start=10 + 10 * at)
                for m in range(0, 20, 1 + value % 2)
            ]
            store.write(name, STREAM, Batch(rows=rows))
        span = ("1m", T0, T0 + 600)
        found = store.top([cluster, other], "pod", "cpu_mc", *span, limit=3)
        assert [(entry.cluster, entry.key) for entry in found] == [
            (other, keys[3]), (other, keys[2]), (other, keys[1])
        ]  # fmt: skip
        assert found[0] == TopRow(other, keys[3], 5, 5 * 23, 27)
        found = store.top([cluster], "pod", "cpu_mc", "10m", T0, T0 + 600, limit=9, by="max")
        assert [(entry.key, entry.high) for entry in found] == [
            (keys[0], 20), (keys[1], 20), (keys[2], 20), (keys[3], 20)
        ]  # fmt: skip
        assert store.top([cluster], "pod", "mem_ws", *span, limit=3) == []
        assert store.top([], "pod", "cpu_mc", *span, limit=3) == []
        assert store.top([cluster], "pod", "cpu_mc", *span, limit=0) == []

    def test_unknown_highest_values_do_not_rank_by_them(self, store, cluster):
        unknown = SeriesKey("pod", "ns", "p")
        rows = [
            coarse(POD, "10m", T0, cpu_mc=Cell(10, 10, 0, 3)),
            coarse(POD, "10m", T0 + 600, cpu_mc=Cell(10, 10, 0, None)),
            coarse(unknown, "10m", T0, cpu_mc=Cell(10, 90, None, None)),
        ]
        store.write(cluster, STREAM, Batch(coarse=rows))
        span = ("pod", "cpu_mc", "10m", T0, T0 + 1200)
        assert store.top([cluster], *span, limit=5) == [
            TopRow(cluster, unknown, 10, 90, None), TopRow(cluster, POD, 20, 20, 3)
        ]  # fmt: skip
        assert [top.key for top in store.top([cluster], *span, limit=5, by="max")] == [POD]
