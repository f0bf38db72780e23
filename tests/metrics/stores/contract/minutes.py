"""Minutes and their rollups: what is written comes back, once, in every width."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

from metrics.series import rollups
from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, Columns, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Position
from metrics.stores import StoreError
from metrics.stores.writer import Batch
from tests.examples import examples
from tests.metrics.stores.contract.model import BATCHES, KEYS, Model
from tests.metrics.stores.contract.rows import (
    CLUSTER,
    NODE,
    POD,
    STREAM,
    T0,
    cell,
    row,
    window,
)


class MinutesContract:
    """A part of :class:`~tests.metrics.stores.contract.StoreContract`."""

    def test_a_minute_comes_back_as_mean_low_and_high(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=Cell(4, 10, 1, 5))]))
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 60) == Columns(
            [T0], [1], [3], [1], [5]
        )

    def test_a_missing_value_is_no_zero(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=0)]))
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 3600).total == [0]
        assert store.read(cluster, POD, "mem_ws", "1h", T0, T0 + 3600).t == []
        assert store.last_one(cluster, POD).values[:2] == (0, None)

    def test_wider_tiers_count_minutes_and_add_up_their_means(self, store, cluster):
        rows = [row(POD, T0 + 60 * m, cpu_mc=Cell(2, 2 * m, m - 1, m + 1)) for m in range(75)]
        store.write(cluster, STREAM, Batch(rows=rows))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 1200) == Columns(
            [T0, T0 + 600], [10, 10], [45, 145], [-1, 9], [10, 20]
        )
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 7200) == Columns(
            [T0, T0 + 3600], [60, 15], [1770, 1005], [-1, 59], [60, 75]
        )

    def test_the_same_batch_again_changes_nothing(self, store, cluster):
        batch = Batch(
            rows=[row(NODE, T0 + 60 * m, cpu_mc=m, ready=1) for m in range(20)],
            windows=[window(T0, T0 + 1200)],
            watermark=T0 + 1200,
            head=T0 + 1200,
        )
        store.write(cluster, STREAM, batch)
        before = self.everything(store, cluster)
        store.write(cluster, STREAM, batch)
        assert self.everything(store, cluster) == before

    def test_a_minute_over_fewer_samples_never_replaces_one_over_more(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=cell(7, n=4))]))
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=cell(9, n=3))]))
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [7]
        assert store.last_one(cluster, POD).values[0] == 7
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=cell(8, n=4))]))
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [8]

    def test_a_bucket_outlives_its_expired_minutes_even_when_late_data_comes(self, store, cluster):
        rows = [row(POD, T0 + 60 * m, cpu_mc=5) for m in range(10)]
        store.write(cluster, STREAM, Batch(rows=rows))
        assert store.expire(cluster, "pod", "1m", T0 + 540) == 9
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 60, cpu_mc=9)]))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 60).n == [10]
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [50]

    def test_the_cluster_is_made_from_all_nodes_of_the_minute(self, store, cluster):
        second = SeriesKey("node", "", "n2")
        store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=100, uptime_s=9, ready=1)]))
        store.write(cluster, STREAM, Batch(rows=[row(second, T0, cpu_mc=50, uptime_s=4, ready=0)]))
        values = dict(
            zip(FIELD_NAMES["cluster"], store.last_one(cluster, CLUSTER).values, strict=True)
        )
        assert values["cpu_mc"] == 150
        assert values["uptime_s"] == 4
        assert (values["nodes_ready"], values["nodes_total"]) == (1, 2)
        assert values["mem_ws"] is None

    def test_values_that_do_not_fit_are_refused_alone_and_counted(self, store, cluster):
        bad = row(
            POD, T0, cpu_mc=2**63, mem_ws=5, mem_rss=Cell(0, 0, 0, 0), fs_used=Cell(1, 5, 6, 7)
        )
        result = store.write(cluster, STREAM, Batch(rows=[bad]))
        assert (result.refused_cells, result.skipped_rows) == (3, 0)
        assert store.last_one(cluster, POD).values == (None, 5, None, None, None, None, None)

    def test_the_largest_values_of_an_hour_add_up(self, store, cluster):
        rows = [row(NODE, T0 + 60 * m, mem_ws=rollups.LARGEST) for m in range(60)]
        store.write(cluster, STREAM, Batch(rows=rows))
        columns = store.read(cluster, NODE, "mem_ws", "1h", T0, T0 + 3600)
        assert columns.total == [60 * rollups.LARGEST]

    def test_last_comes_in_the_order_in_which_series_were_first_seen(self, store, cluster):
        keys = [POD._replace(name=f"p{at * 7 % 20}") for at in range(20)]
        store.write(cluster, STREAM, Batch(rows=[row(key, T0, cpu_mc=1) for key in keys]))
        assert [found.key for found in store.last(cluster, "pod")] == keys

    def test_last_keeps_the_newest_minute_though_older_ones_come_later(self, store, cluster):
        info = SeriesInfo(POD, "n2", {"phase": "Running"})
        old = SeriesInfo(POD, "n1", {"phase": "Pending"})
        store.write(cluster, STREAM, Batch([row(POD, T0 + 600, cpu_mc=2)], [info]))
        store.write(cluster, STREAM, Batch([row(POD, T0, cpu_mc=1)], [old]))
        last = store.last_one(cluster, POD)
        assert (last.ts, last.values[0], last.node) == (T0 + 600, 2, "n2")
        assert last.attrs == {"phase": "Running"}
        assert store.first_seen(cluster, POD) == T0
        assert store.last(cluster, "pod") == [last]
        assert store.last(cluster, "pod", since=T0 + 660) == []

    def test_a_malformed_batch_is_refused_whole(self, store, cluster):
        good = row(POD, T0, cpu_mc=1)
        for bad in (
            row(POD, T0 + 1, cpu_mc=1),
            row(CLUSTER, T0, cpu_mc=1),
            MinuteRow(T0, POD, (None,)),
        ):
            with pytest.raises(StoreError):
                store.write(cluster, STREAM, Batch(rows=[good, bad], watermark=T0))
        assert store.last_one(cluster, POD) is None
        assert store.position(cluster, STREAM) == Position(None, None)

    def test_hostile_names_are_kept_as_they_are_or_skipped(self, store, cluster):
        nasty = [
            SeriesKey("pod", "a' OR 1=1 --", "<script>%s</script>"),
            SeriesKey("pod", "\x00\n", "\u202e💥"),
            SeriesKey("pod", "", ""),
        ]
        unusable = [SeriesKey("pod", "", "\ud800"), SeriesKey("pod", "x" * 100_000, "")]
        result = store.write(
            cluster, STREAM, Batch(rows=[row(key, T0, cpu_mc=1) for key in nasty + unusable])
        )
        assert result.skipped_rows == 2
        assert result.detail
        assert {last.key for last in store.last(cluster, "pod")} == set(nasty)

    @settings(
        max_examples=examples(20),
        deadline=None,
        # Run by several classes in one process, each with a store of its own making.
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.differing_executors,
        ],
    )
    @given(batches=BATCHES)
    def test_any_batches_in_any_order_read_like_the_model(self, store, batches):
        cluster, model = uuid4(), Model()
        for batch in batches:
            store.write(cluster, STREAM, batch)
            model.write(batch)
        for key in (*KEYS, CLUSTER):
            for field in FIELD_NAMES[key.kind]:
                for tier in TIERS:
                    assert store.read(cluster, key, field, tier, T0, T0 + 7200) == model.read(
                        key, field, tier, T0, T0 + 7200
                    ), (key, field, tier)
        store.erase(cluster)
