"""The arithmetic of rollups."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.series import rollups
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, Columns

CELLS = st.none() | st.lists(st.integers(-(2**57), 2**57), min_size=1, max_size=5).map(
    lambda values: Cell(len(values), sum(values), min(values), max(values))
)


@pytest.mark.parametrize(
    ("total", "n", "mean"), [(10, 4, 3), (9, 4, 2), (-10, 4, -2), (0, 3, 0), (7, 1, 7), (-1, 2, 0)]
)
def test_a_mean_is_rounded_halves_up(total, n, mean):
    assert rollups.rounded_mean(total, n) == mean


def test_a_minute_is_its_mean_with_the_extremes():
    assert rollups.minute(Cell(4, 10, 1, 5)) == Cell(1, 3, 1, 5)
    assert rollups.minute(None) is None


@pytest.mark.parametrize(
    "cell",
    [
        Cell(0, 0, 0, 0),
        Cell(-1, -5, 5, 5),
        Cell(1, 5, 6, 7),
        Cell(1, 5, 3, 4),
        Cell(1, 2**57 + 1, 0, 2**57 + 1),
        Cell(10**9, 10**9, 1, 1),
        Cell(1, 1.5, 1, 2),
        Cell(1, True, 1, 1),
        Cell(1, float("nan"), 0, 0),
    ],
)
def test_nonsense_is_refused(cell):
    assert rollups.minute(cell) is None


@given(cells=st.lists(CELLS, max_size=12), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_merging_in_any_grouping_and_order_gives_the_same(cells, cuts):
    bounds = [0, *sorted(cuts), len(cells)]
    grouped = [rollups.merge(cells[a:b]) for a, b in pairwise(bounds) if a <= b]
    assert rollups.merge(reversed(grouped)) == rollups.merge(cells)


@given(cells=st.lists(CELLS, min_size=60, max_size=60))
def test_an_hour_from_ten_minutes_equals_an_hour_from_minutes(cells):
    minutes = [rollups.minute(cell) for cell in cells]
    tens = [rollups.merge(minutes[at : at + 10]) for at in range(0, 60, 10)]
    hour = rollups.merge(minutes)
    assert rollups.merge(tens) == hour
    if hour:
        assert hour.n == sum(cell is not None for cell in cells)
        assert hour.low * hour.n <= hour.total <= hour.high * hour.n
        assert abs(hour.total) < 2**63


def test_rows_merge_field_by_field():
    one, two = Cell(1, 5, 5, 5), Cell(1, 7, 6, 9)
    assert rollups.merge_rows([(one, None), (two, two)]) == (Cell(2, 12, 5, 9), two)
    assert rollups.merge_rows([]) == ()


def test_a_cluster_is_summed_over_the_nodes_that_measured():
    def node(**fields):
        return tuple(fields.get(name) for name in FIELD_NAMES["node"])

    cells = dict(
        zip(
            FIELD_NAMES["cluster"],
            rollups.cluster_minute(
                [
                    node(
                        cpu_mc=Cell(1, 10, 5, 20),
                        uptime_s=Cell(1, 90, 60, 120),
                        etcd_fsync_us=Cell(1, 4, 3, 9),
                        ready=Cell(1, 1, 1, 1),
                    ),
                    node(
                        cpu_mc=Cell(1, 30, 30, 31),
                        uptime_s=Cell(1, 80, 70, 100),
                        etcd_fsync_us=Cell(1, 6, 1, 7),
                        ready=Cell(1, 0, 0, 0),
                    ),
                    node(mem_ws=Cell(1, 7, 7, 7)),
                ]
            ),
            strict=True,
        )
    )
    assert cells["cpu_mc"] == Cell(1, 40, 40, 40)
    assert cells["mem_ws"] == Cell(1, 7, 7, 7)
    assert cells["uptime_s"] == Cell(1, 80, 60, 100)
    assert cells["etcd_fsync_us"] == Cell(1, 6, 3, 9)
    assert cells["nodes_ready"] == Cell(1, 1, 1, 1)
    assert cells["nodes_total"] == Cell(1, 3, 3, 3)
    assert cells["fs_used"] is None


def test_a_cluster_whose_nodes_say_nothing_of_ready_has_no_ready_count():
    cells = rollups.cluster_minute([(None,) * len(FIELD_NAMES["node"])])
    assert cells[FIELD_NAMES["cluster"].index("nodes_ready")] is None


def test_columns_merge_into_wider_buckets():
    columns = Columns([600, 1200, 1800], [10, 5, 1], [100, 10, 3], [9, 1, 3], [11, 4, 3])
    assert rollups.rebucket(columns, 1200) == Columns(
        [0, 1200], [10, 6], [100, 13], [9, 1], [11, 4]
    )
    assert rollups.rebucket(columns, 600) == columns


def test_unknown_extremes_stay_unknown_in_wider_buckets():
    one, two = Cell(5, 50, None, 20), Cell(5, 50, 1, 30)
    assert rollups.merge([one, two, None]) == Cell(10, 100, None, 30)
    columns = Columns([600, 1200, 1800], [5, 5, 5], [50, 50, 50], [None, 1, 2], [20, 30, None])
    assert rollups.rebucket(columns, 1800) == Columns(
        [0, 1800], [10, 5], [100, 50], [None, 2], [30, None]
    )


@pytest.mark.parametrize(
    "cell",
    [
        None,
        Cell(0, 0, 0, 0),
        Cell(11, 11, 1, 1),
        Cell(2, 30, 1, 10),
        Cell(2, 30, 16, None),
        Cell(5, 5 * 2**57 + 1, None, None),
        Cell(5, 1.5, None, None),
        Cell(5, 5, "1", None),
    ],
)
def test_a_coarse_cell_that_cannot_be_is_refused(cell):
    assert rollups.coarse(cell, 600) is None


def test_a_coarse_cell_is_kept_as_it_is():
    for cell in (Cell(5, 7, None, None), Cell(10, 10 * 2**57, 2**57, 2**57), Cell(1, -3, -3, None)):
        assert rollups.coarse(cell, 600) == cell


@given(
    st.lists(st.lists(st.integers(0, 1000), min_size=5, max_size=5), min_size=1, max_size=4),
)
def test_a_clusters_bucket_of_whole_buckets_has_the_sums_of_its_minutes(values):
    minutes = [[row_of(cpu_mc=Cell(1, value, value, value)) for value in node] for node in values]
    from_buckets = rollups.cluster_bucket([rollups.merge_rows(node) for node in minutes])
    from_minutes = rollups.merge_rows(
        [rollups.cluster_minute(list(nodes)) for nodes in zip(*minutes, strict=True)]
    )
    at = FIELD_NAMES["cluster"].index("cpu_mc")
    assert from_buckets[at][:2] == from_minutes[at][:2]
    total = FIELD_NAMES["cluster"].index("nodes_total")
    assert from_buckets[total][:2] == from_minutes[total][:2] == (5, 5 * len(values))


def row_of(**fields):
    return tuple(fields.get(name) for name in FIELD_NAMES["node"])
