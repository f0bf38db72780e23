"""How pages show amounts, clocks and audit lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template

from opscenter.pages import format as fmt


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (None, fmt.UNKNOWN),
        (0, "the same"),
        (107, "107 ms ahead"),
        (-1200, "1200 ms behind"),
        (89_989, "89 s ahead"),
        (-7_200_000, "2 h behind"),
    ],
)
def test_a_clock_is_ahead_or_behind_and_never_a_bare_sign(milliseconds, words):
    assert fmt.skew(milliseconds) == words


@pytest.mark.parametrize(
    ("millicores", "words"),
    [(None, fmt.UNKNOWN), (0, "<1 m"), (999, "999 m"), (1000, "1.00 cores"), (4794, "4.79 cores"),
     (20_000, "20.0 cores"), (180_000, "180 cores")],
)  # fmt: skip
def test_a_whole_core_and_more_is_shown_in_cores(millicores, words):
    assert fmt.cores(millicores) == words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(None, fmt.UNKNOWN), (0, "0 %"), (0.0004, "<0.1 %"), (0.0091, "0.9 %"), (0.0999, "9.9 %"),
     (0.1, "10 %"), (0.999, "99 %")],
)  # fmt: skip
def test_a_small_share_is_never_nothing(ratio, words):
    assert fmt.small_percent(ratio) == words


def test_a_tier_is_named_in_words():
    assert [fmt.bucket(tier) for tier in ("1m", "10m", "1h", "5m")] == [
        "minutes (1m)", "ten minutes (10m)", "hours (1h)", "5m",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"region": "eu", "tier": ["a", "b"]}, "region=eu, tier=a, b"),
        ({}, "none"),
        ([], "none"),
        (True, "yes"),
        (None, fmt.UNKNOWN),
        (12, "12"),
    ],
)
def test_a_value_of_an_audit_line_is_no_program_text(value, words):
    assert fmt.plain(value) == words


def test_a_time_in_the_future_is_no_age():
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    page = Template("{% load ops %}{% age at 60 %}")
    for ahead, text in ((-90, "90 s"), (4, "0 s"), (6, "in the future")):
        shown = page.render(Context({"now": now, "at": now + timedelta(seconds=ahead)}))
        assert f">{text}<" in shown
        assert ("old" in shown) is (ahead not in (4,))
