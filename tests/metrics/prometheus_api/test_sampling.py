"""Buckets on a query's grid, by value and against a slow and plain way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metrics.prometheus_api.sampling import Grid, choose_tier, place
from metrics.series.rows import Columns

T0 = 1_700_000_000 // 3600 * 3600
DAY = 86_400
REACH = {"1m": 7 * DAY, "10m": 90 * DAY, "1h": 730 * DAY}


def columns(*cells):
    """Return minutes as (minute, n, total, low, high)."""
    lists = [list(part) for part in zip(*cells, strict=True)] or [[], [], [], [], []]
    return Columns([T0 + 60 * m for m in lists[0]], *lists[1:])


def grid(start, step, count):
    return Grid(1000 * (T0 + start), 1000 * step, count)


def test_a_minute_is_known_at_its_end_and_for_one_step():
    one = columns((0, 1, 7, 5, 9), (2, 1, 8, 8, 8))
    assert place(one, 60, grid(0, 60, 5), "mean") == [None, 7, None, 8, None]
    assert place(one, 60, grid(30, 60, 4), "mean") == [None, 7, None, 8]
    assert place(one, 60, grid(0, 15, 9), "mean") == [None] * 4 + [7] * 4 + [None]
    assert place(one, 60, grid(0, 60, 3), "min") == [None, 5, None]
    assert place(one, 60, grid(0, 60, 3), "max") == [None, 9, None]


def test_a_wide_step_is_the_mean_over_it_weighted_by_minutes():
    one = columns((0, 1, 10, 10, 10), (1, 3, 60, 15, 25), (9, 1, 4, 2, 6))
    assert place(one, 60, grid(600, 600, 1), "mean") == [74 / 5]
    assert place(one, 60, grid(600, 600, 1), "min") == [2]
    assert place(one, 60, grid(600, 600, 1), "max") == [25]


def test_an_instant_is_the_newest_sample_of_five_minutes():
    one = columns((0, 1, 1, 1, 1), (1, 1, 2, 2, 2))
    assert place(one, 60, grid(120, 0, 1), "mean") == [2]
    assert place(one, 60, grid(119, 0, 1), "mean") == [1]
    assert place(one, 60, grid(419, 0, 1), "max") == [2]
    assert place(one, 60, grid(420, 0, 1), "mean") == [None]


def test_an_unknown_extreme_of_a_part_leaves_the_whole_unknown():
    one = columns((0, 5, 50, None, None), (1, 1, 2, 2, 2))
    assert place(one, 60, grid(120, 120, 1), "mean") == [52 / 6]
    assert place(one, 60, grid(120, 120, 1), "max") == [None]
    assert place(one, 60, grid(120, 0, 1), "max") == [2]


@given(
    st.dictionaries(st.integers(0, 40), st.integers(0, 100), max_size=30),
    st.integers(-100, 2500), st.integers(1, 900), st.integers(1, 30),
)  # fmt: skip
def test_every_moment_has_the_samples_of_its_window(minutes, start, step, count):
    one = columns(*((m, 1, v, v, v) for m, v in sorted(minutes.items())))
    asked = grid(start, step, count)
    window = max(60, step)
    expected = []
    for k in range(count):
        at = start + k * step
        inside = [v for m, v in minutes.items() if at - window < 60 * (m + 1) <= at]
        expected.append((sum(inside) / len(inside), min(inside), max(inside)) if inside else None)
    for index, statistic in enumerate(("mean", "min", "max")):
        assert place(one, 60, asked, statistic) == [e and e[index] for e in expected] or [
            None if e is None else e[index] for e in expected
        ] == place(one, 60, asked, statistic)
    first, last = asked.reach(60)
    assert first <= max(0, T0 + start - window - 60) + 60
    assert last > T0 + start + step * (count - 1) - 60


def test_the_tier_is_the_widest_that_fits_the_step_and_holds_the_start():
    now = T0 + 30 * DAY

    def tier(ago, step):
        return choose_tier(Grid(1000 * (now - ago), 1000 * step, 2), now=now, reach=REACH)

    assert [tier(3600, s) for s in (0, 15, 60, 599, 600, 3599, 3600, DAY)] == [
        "1m", "1m", "1m", "1m", "10m", "10m", "1h", "1h",
    ]  # fmt: skip
    assert [tier(20 * DAY, s) for s in (0, 60, 600, 3600)] == ["10m", "10m", "10m", "1h"]
    assert tier(100 * DAY, 60) == "1h"
    assert tier(1000 * DAY, 60) == "1h"
