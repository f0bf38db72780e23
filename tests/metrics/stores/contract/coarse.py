"""Values that come in wider buckets only."""

from __future__ import annotations

import pytest

from metrics.series.catalog import TIERS
from metrics.series.rows import Cell, CoarseRow, Columns, SeriesInfo, SeriesKey
from metrics.series.windows import Position
from metrics.stores import StoreError
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


class CoarseContract:
    """A part of :class:`~tests.metrics.stores.contract.StoreContract`."""

    def test_coarse_rows_enter_their_tier_and_the_hour_without_inventing_extremes(
        self, store, cluster
    ):
        rows = [
            coarse(POD, "10m", T0 + 600 * at, cpu_mc=Cell(10, 100 * at, None, 9 * at + 10))
            for at in range(3)
        ]
        rows.append(coarse(POD, "10m", T0 + 1800, cpu_mc=Cell(5, 50, 7, None)))
        result = store.write(cluster, STREAM, Batch(coarse=rows))
        assert (result.refused_cells, result.skipped_rows) == (0, 0)
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 3600).t == []
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 3600) == Columns(
            [T0, T0 + 600, T0 + 1200, T0 + 1800],
            [10, 10, 10, 5],
            [0, 100, 200, 50],
            [None, None, None, 7],
            [10, 19, 28, None],
        )
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 3600) == Columns(
            [T0], [35], [350], [None], [None]
        )

    def test_a_bucket_over_fewer_minutes_never_replaces_one_over_more(self, store, cluster):
        minutes = [row(POD, T0 + 60 * m, cpu_mc=5) for m in range(7)]
        store.write(cluster, STREAM, Batch(rows=minutes))
        less = coarse(POD, "10m", T0, cpu_mc=Cell(5, 500, None, None))
        store.write(cluster, STREAM, Batch(coarse=[less]))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).total == [35]
        more = coarse(POD, "10m", T0, cpu_mc=Cell(10, 100, None, None))
        store.write(cluster, STREAM, Batch(coarse=[more]))
        hour = coarse(POD, "1h", T0, cpu_mc=Cell(60, 6000, 1, 200))
        store.write(cluster, STREAM, Batch(coarse=[hour]))
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 420, cpu_mc=5)]))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600) == Columns(
            [T0], [10], [100], [None], [None]
        )
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 600).n == [60]
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 600).n == [1] * 8

    @pytest.mark.parametrize("tier", ["10m", "1h"])
    def test_a_field_that_a_coarse_row_lacks_stays_as_its_minutes_made_it(
        self, store, cluster, tier
    ):
        minutes = [row(NODE, T0 + 60 * m, cpu_mc=5, mem_ws=7) for m in range(6)]
        store.write(cluster, STREAM, Batch(rows=minutes))
        n = TIERS[tier] // 60
        rough = coarse(NODE, tier, T0, cpu_mc=Cell(n, 9 * n, None, 20))
        store.write(cluster, STREAM, Batch(coarse=[rough]))
        for key in (NODE, CLUSTER):
            of_memory = store.read(cluster, key, "mem_ws", tier, T0, T0 + 3600)
            assert (of_memory.n, of_memory.total) == ([6], [42]), key
            assert store.read(cluster, key, "cpu_mc", tier, T0, T0 + 3600).total == [9 * n], key
        store.write(cluster, STREAM, Batch(coarse=[rough]))
        assert store.read(cluster, NODE, "mem_ws", tier, T0, T0 + 3600).total == [42]

    def test_minutes_that_come_after_coarse_rows_replace_them_once_they_are_as_many(
        self, store, cluster
    ):
        rough = coarse(POD, "10m", T0, cpu_mc=Cell(5, 500, None, None))
        store.write(cluster, STREAM, Batch(coarse=[rough]))
        store.write(cluster, STREAM, Batch([row(POD, T0 + 60 * m, cpu_mc=1) for m in range(4)]))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).total == [500]
        store.write(cluster, STREAM, Batch([row(POD, T0 + 240, cpu_mc=6)]))
        for tier in ("10m", "1h"):
            assert store.read(cluster, POD, "cpu_mc", tier, T0, T0 + 600) == Columns(
                [T0], [5], [10], [1], [6]
            )

    def test_the_cluster_has_coarse_rows_of_its_nodes(self, store, cluster):
        second = SeriesKey("node", "", "n2")
        rows = [
            coarse(NODE, "10m", T0, cpu_mc=Cell(10, 100, 5, 20), uptime_s=Cell(10, 90, 9, 9)),
            coarse(second, "10m", T0, cpu_mc=Cell(5, 50, 5, 20), uptime_s=Cell(10, 40, 4, 4)),
        ]
        store.write(cluster, STREAM, Batch(coarse=rows[:1]))
        store.write(cluster, STREAM, Batch(coarse=rows[1:]))
        found = store.read_fields(
            cluster, CLUSTER, ["cpu_mc", "uptime_s", "nodes_total"], "1h", T0, T0 + 3600
        )
        assert found == {
            "cpu_mc": Columns([T0], [10], [150], [None], [None]),
            "uptime_s": Columns([T0], [10], [40], [4], [4]),
            "nodes_total": Columns([T0], [10], [20], [None], [None]),
        }

    def test_coarse_rows_that_are_malformed_or_absurd_are_refused(self, store, cluster):
        for bad in (
            coarse(POD, "1m", T0, cpu_mc=1),
            coarse(POD, "1h", T0 + 600, cpu_mc=1),
            coarse(CLUSTER, "10m", T0, cpu_mc=1),
            CoarseRow("10m", T0, POD, (None,)),
        ):
            with pytest.raises(StoreError):
                store.write(cluster, STREAM, Batch(coarse=[bad], watermark=T0))
        assert store.position(cluster, STREAM) == Position(None, None)
        absurd = coarse(
            POD,
            "10m",
            T0,
            cpu_mc=Cell(11, 1, 0, 1),
            mem_ws=Cell(10, 2**62, None, None),
            mem_rss=Cell(2, 30, 1, 10),
            fs_used=Cell(10, 55, None, None),
        )
        assert store.write(cluster, STREAM, Batch(coarse=[absurd])).refused_cells == 3
        assert store.read(cluster, POD, "fs_used", "10m", T0, T0 + 600).total == [55]
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).t == []

    def test_a_series_known_from_coarse_rows_alone_is_listed_without_values(self, store, cluster):
        rows = [coarse(POD, "10m", T0 + 600 * at, cpu_mc=Cell(10, 9, 0, 9)) for at in (1, 0)]
        info = SeriesInfo(POD, "n1", {"phase": "Running"})
        store.write(cluster, STREAM, Batch(coarse=rows, infos=[info]))
        (last,) = store.last(cluster, "pod")
        assert (last.key, last.ts, last.node) == (POD, T0 + 600, "n1")
        assert set(last.values) == {None}
        assert store.first_seen(cluster, POD) == T0
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 600, cpu_mc=4)]))
        store.write(cluster, STREAM, Batch(coarse=[coarse(POD, "10m", T0 + 1200, cpu_mc=1)]))
        assert store.last_one(cluster, POD).values[0] == 4
        assert store.forget(cluster, T0 + 6000) == 1
