"""Which range of time a URL asks for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from opscenter.pages.time_range import read_range

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
AT = int(NOW.timestamp())


def asked(start: int, end: int):
    return read_range({"start": str(AT + start), "end": str(AT + end)}, NOW)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (3600, 7200, "This range is in the future. The last 6 h are shown instead."),
        (-60, -60, "This range is empty: its end is not after its start."),
        (-60, -3600, "This range is empty: its end is not after its start."),
        (-11 * 366 * 86_400, 0, "The longest range is 10 years."),
    ],
)
def test_a_range_that_cannot_be_shown_is_answered_with_the_default_and_says_so(start, end, words):
    found = asked(start, end)
    assert (found.name, found.end) == ("6h", AT)
    assert found.note.startswith(words)


def test_a_range_that_reaches_into_the_future_ends_now_and_says_so():
    found = asked(-7200, 7200)
    assert (found.start, found.end, found.name) == (AT - 7200, AT, "")
    assert found.note == "The end of this range is in the future: shown up to now."
    assert asked(-7200, 30).note == ""  # the minute that has begun


def test_a_range_of_less_than_five_minutes_is_widened_and_says_so():
    found = asked(-3600, -3540)
    assert (found.start, found.end) == (AT - 3540 - 300, AT - 3540)
    assert found.note == "The shortest range is 5 minutes."


def test_what_cannot_be_read_is_the_default_without_a_word():
    for query in ({"start": "soon", "end": "later"}, {"start": "5"}, {"range": "nope"}, {}):
        found = read_range(query, NOW)
        assert (found.name, found.note) == ("6h", "")
