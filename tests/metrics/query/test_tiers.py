"""Which tier answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.query.tiers import MAX_POINTS, Selection, expected_minutes, select
from metrics.series.catalog import TIERS
from metrics.series.rows import Columns

DAY = 86_400
REACH = {"1m": 7 * DAY, "10m": 90 * DAY, "1h": 730 * DAY}
NOW = 1_700_000_000 // 3600 * 3600


@pytest.mark.parametrize(
    ("start", "end", "points", "tier", "step"),
    [
        (NOW - 3600, NOW, 1440, "1m", 60),
        (NOW - DAY, NOW, 1440, "1m", 60),
        (NOW - DAY, NOW, 1439, "10m", 600),
        (NOW - DAY - 60, NOW, 1440, "10m", 600),
        (NOW - 8 * DAY, NOW - 8 * DAY + 3600, 1440, "10m", 600),  # minutes are gone by then
        (NOW - 10 * DAY, NOW, 1440, "10m", 600),
        (NOW - 30 * DAY, NOW, 1440, "1h", 3600),
        (NOW - 91 * DAY, NOW - 90 * DAY, 1440, "1h", 3600),
        (NOW - 730 * DAY, NOW, 1440, "1h", 13 * 3600),
        (NOW - 4000 * DAY, NOW - 3999 * DAY, 1440, "1h", 3600),  # nothing is kept: the longest
        (NOW - 3600, NOW, 0, "1h", 3600),
    ],
)
def test_the_finest_kept_tier_that_fits_answers(start, end, points, tier, step):
    chosen = select(start, end, points=points, now=NOW, reach=REACH)
    assert (chosen.tier, chosen.step) == (tier, step)


def test_a_range_is_rounded_out_to_buckets():
    assert select(NOW + 1, NOW + 61, points=9, now=NOW, reach=REACH) == Selection(
        "1m", 60, NOW, NOW + 120
    )


@given(
    start=st.integers(0, 2**33),
    length=st.integers(1, 10 * 366 * DAY),
    points=st.integers(-5, 5000),
    now=st.integers(0, 2**33),
)
def test_never_more_points_than_asked_and_always_the_whole_range(start, length, points, now):
    chosen = select(start, start + length, points=points, now=now, reach=REACH)
    assert 1 <= chosen.count <= max(2, min(points, MAX_POINTS))
    assert chosen.start <= start < start + length <= chosen.end
    assert chosen.step % TIERS[chosen.tier] == 0
    assert chosen.start % chosen.step == chosen.end % chosen.step == 0


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match="before end"):
        select(NOW, NOW, points=9, now=NOW, reach=REACH)


def test_coverage_counts_elapsed_minutes_of_a_living_series_only():
    columns = Columns([0, 600, 1200], [5, 10, 3], [1] * 3, [1] * 3, [1] * 3)
    assert expected_minutes(columns, 600, born=None, until=1500) == [10, 10, 5]
    assert expected_minutes(columns, 600, born=300, until=1380) == [5, 10, 3]
