"""Ages: what lies in the future is not fresh, but not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscenter.core.ages import FUTURE_SECONDS, age_seconds

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_an_age_is_the_seconds_since_then():
    assert age_seconds(NOW - timedelta(seconds=90), NOW) == 90


def test_unix_seconds_have_ages_too():
    assert age_seconds(1_000.5, 1_010.0) == 9.5


def test_what_never_happened_has_no_age():
    assert age_seconds(None, NOW) is None


@pytest.mark.parametrize("ahead", [0.5, 4.9, FUTURE_SECONDS])
def test_a_moment_ahead_is_a_difference_of_two_clocks(ahead):
    assert age_seconds(NOW + timedelta(seconds=ahead), NOW) == 0


@pytest.mark.parametrize("ahead", [5.1, 7200, 86_400 * 365])
def test_what_lies_in_the_future_is_not_known(ahead):
    assert age_seconds(NOW + timedelta(seconds=ahead), NOW) is None


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_time_that_passes_never_makes_a_known_age_smaller(then, later):
    before, after = age_seconds(then, 0.0), age_seconds(then, later)
    assert before is None or (after is not None and after >= before)
