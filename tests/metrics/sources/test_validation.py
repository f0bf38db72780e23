"""Names from clusters: what is taken out, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.sources.validation import MAX_NAME, clean_text
from opscenter.core.errors import BadResponseError


def test_line_breaks_and_direction_marks_go_and_markup_stays():
    assert clean_text("a\nb\r\u202e<b>\u2028\x00", "name", MAX_NAME) == "ab<b>"


@given(st.text(max_size=MAX_NAME))
def test_a_clean_name_is_clean_already(name: str):
    once = clean_text(name, "name", MAX_NAME)
    assert clean_text(once, "name", MAX_NAME) == once


@pytest.mark.parametrize("value", [None, 5, b"x", ["x"], "x" * (MAX_NAME + 1)])
def test_what_is_no_text_or_too_long_is_refused_as_a_bad_name(value: object):
    with pytest.raises(BadResponseError) as refused:
        clean_text(value, "pod.series[3].name", MAX_NAME)
    assert refused.value.problem == "bad_name"
    assert "pod.series[3].name" in str(refused.value)
