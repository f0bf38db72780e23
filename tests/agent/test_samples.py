import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.samples import MAX_VALUE, clean_attrs, clean_name, make_sample


@given(st.text(max_size=600))
def test_a_clean_name_is_short_printable_and_cleaning_it_again_changes_nothing(text):
    cleaned = clean_name(text)
    assert len(cleaned) <= 253
    assert not any(unicodedata.category(char).startswith("C") for char in cleaned)
    assert clean_name(cleaned) == cleaned


def test_hostile_names_lose_what_is_dangerous_and_keep_the_rest():
    assert clean_name("\x1b[31mred\x00\n") == "[31mred"
    assert clean_name("user\u202egpj.exe") == "usergpj.exe"
    assert clean_name("café-☕") == "café-☕"
    assert clean_name(b"disk\xff".decode("utf-8", "surrogateescape")) == "disk?"
    assert clean_name("x" * 10_000_000) == "x" * 253


def test_a_sample_without_a_usable_name_is_still_a_row():
    assert make_sample("pod", "\x00\x01", {}).name == "?"


def test_values_that_are_no_measurement_are_none():
    sample = make_sample(
        "filesystem",
        "/",
        {"used": math.nan, "cap": -1, "inodes_total": math.inf, "inodes_free": 2.5},
    )
    assert sample.values == (None, None, None, 2)
    assert make_sample("filesystem", "/", {"used": 1e300}).values[0] == MAX_VALUE


def test_an_unknown_field_is_refused():
    with pytest.raises(KeyError, match="usd"):
        make_sample("filesystem", "/", {"usd": 1})


def test_attributes_are_few_and_short():
    attrs = clean_attrs({"empty": "", **{f"k{n}": "v" * 999 for n in range(40)}})
    assert len(attrs) == 16
    assert {len(value) for value in attrs.values()} == {256}
