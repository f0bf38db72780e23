"""How a range differs from a former one."""

from __future__ import annotations

import pytest

from metrics.query.comparison import Change, change_of
from metrics.series.windows import DAY

T0 = 1_700_000_000 // DAY * DAY


def change(now, before, step=60, former_step=60, offset=DAY, samples=None):
    """Return the change between {bucket: mean} now and, counted from its own start, before."""
    return change_of(
        [T0 + step * i for i in now], list(now.values()), samples or [step // 60] * len(now), step,
        [T0 - offset + former_step * i for i in before], list(before.values()), former_step,
        offset,
    )  # fmt: skip


def test_means_are_compared_over_the_same_moments():
    assert change({0: 10, 1: 20}, {0: 10, 1: 10}) == Change(15, 10, 0.5, 1)
    # The former gap at 1 takes the later value of 1 out of the comparison.
    assert change({0: 10, 1: 1000, 2: 20}, {0: 10, 2: 10}) == Change(15, 10, 0.5, 2 / 3)


def test_an_open_bucket_counts_as_much_as_it_has_minutes():
    found = change({0: 10, 1: 730}, {0: 10, 1: 10}, 3600, 3600, samples=[59, 1])
    assert found == Change(22, 10, 1.2, 1)
    assert change({0: 10, 1: 9}, {0: 10}, 3600, 3600, samples=[60, 20]).share == 0.75


def test_a_former_range_in_wider_buckets_is_compared_with_what_lies_in_them():
    now = dict.fromkeys(range(20), 30)
    assert change(now, {0: 10, 1: 20}, former_step=600) == Change(30, 15, 1, 1)
    assert change(now, {1: 20}, former_step=600) == Change(30, 20, 0.5, 0.5)


def test_without_anything_in_common_nothing_is_claimed():
    nothing = Change(None, None, None, 0)
    assert change({}, {0: 1}) == change({0: 1}, {}) == change({0: 1}, {5: 1}) == nothing


def test_a_former_mean_of_zero_has_no_ratio():
    assert change({0: 5}, {0: 0}) == Change(5, 0, None, 1)


def test_a_negative_former_mean_keeps_the_direction():
    assert change({0: -5}, {0: -10}).ratio == pytest.approx(0.5)
