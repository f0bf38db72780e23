"""Rules of the InfluxDB sources that hold for whatever comes."""

from __future__ import annotations

import re
from fractions import Fraction
from math import floor

from hypothesis import given
from hypothesis import strategies as st

from metrics.series.catalog import TIERS
from metrics.sources.influxdb1.client import StoredPolicy
from metrics.sources.influxdb1.queries import (
    COARSE,
    MINUTES,
    RAW,
    ROLLUPS,
    SAMPLES,
    identifier,
    literal,
    select,
)
from metrics.sources.influxdb1.source import _choose
from metrics.sources.influxdb2.queries import _quoted
from metrics.sources.influxdb2.rows import rates
from metrics.sources.row_builder import MASK, SHIFT, codes_of, integers

printable = st.text(st.characters(min_codepoint=32, blacklist_characters="\x7f"), min_size=1)


@given(printable)
def test_a_quoted_name_ends_where_it_should_and_says_what_it_said(text):
    """InfluxQL: a backslash takes what follows as it is; the quote ends."""
    for quoted in (identifier(text), literal(text)):
        quote, inside = quoted[0], quoted[1:-1]
        assert quoted[-1] == quote
        assert not re.search(rf"(?<!\\)(\\\\)*{quote}", inside)
        assert not re.search(r"(?<!\\)(\\\\)*\\$", inside)
        assert re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL) == text


@given(st.text())
def test_a_text_in_flux_neither_ends_nor_begins_an_expression(text):
    inside = _quoted(text)[1:-1]
    assert not re.search(r'(?<!\\)(\\\\)*"', inside)
    assert not re.search(r"(?<!\\)(\\\\)*\$\{", inside)
    assert not re.search(r"(?<!\\)(\\\\)*\\$", inside)
    assert inside.isprintable()


@given(
    st.lists(st.integers(-(10**15), 10**15) | st.floats(-1e9, 1e9), max_size=20),
    st.sampled_from([1, 1000, -1000]),
)
def test_numbers_are_rounded_to_the_nearest_integer_halves_up(values, scale):
    for value, got in zip(values, integers(values, "x", scale), strict=True):
        exact = Fraction(value) * scale if scale > 0 else Fraction(value) / -scale
        assert abs(got - exact) <= Fraction(1, 2) + Fraction(1, 10**3)
        if type(value) is int and all(type(v) is int for v in values):
            assert got == floor(exact + Fraction(1, 2))


@given(st.lists(st.tuples(st.integers(0, 1 << 33), st.integers(0, MASK))))
def test_codes_sort_by_time_and_hold_both(places):
    codes = codes_of([time for time, _ in places], [number for _, number in places])
    assert [(code >> SHIFT, code & MASK) for code in codes] == places
    assert [(code >> SHIFT, code & MASK) for code in sorted(codes)] == sorted(places)


def test_no_statement_makes_the_server_add_up():
    asked = [(series, RAW) for series in (*MINUTES, *SAMPLES)]
    asked += [(series, policy) for policy in ROLLUPS for series in COARSE[policy.name]]
    for series, policy in asked:
        for grouped in (True, False):
            text = select("k8s", series, policy, 0, 600, grouped=grouped)
            assert "(" not in text  # neither a function nor GROUP BY time()


minutes = st.integers(0, 100_000).map(lambda number: 60 * number)


@given(minutes, minutes, minutes, minutes, st.integers(1, 500), st.data())
def test_asking_from_where_the_last_answer_ended_comes_to_the_end(raw, five, hour, start, n, data):
    """Every answer gets on, none is finer than what was left behind, and buckets are whole."""
    stored = [
        StoredPolicy(RAW, raw),
        StoredPolicy(ROLLUPS[0], five),
        StoredPolicy(ROLLUPS[1], hour),
    ]
    stored = [one for one in stored if one.policy is RAW or data.draw(st.booleans())]
    end, step = start + 60 * n, 1 << 30
    for _ in range(4):
        policy, until = _choose(stored, start, end)
        assert start < until <= end
        assert policy.step <= step
        assert until == end or until % TIERS[policy.tier] == 0
        if policy is not RAW:
            begins = min(one.begins for one in stored if one.policy.step < policy.step)
            assert start < max(one.begins for one in stored if one.policy.step < policy.step)
            assert begins is not None
        start, step = until, policy.step
        if start == end:
            return
    raise AssertionError("more answers than there are policies")


@given(
    st.lists(
        st.tuples(st.integers(0, 600), st.sampled_from(["a", "b"]), st.integers(0, 1000)),
        max_size=40,
    )
)
def test_a_rate_is_never_negative_and_says_nothing_of_a_minute_without_its_predecessor(samples):
    points = [(time, (name,), float(value)) for time, name, value in samples]
    there = {(time // 60 * 60, (name,)) for time, name, _ in samples}
    for (minute, tags), rate in rates(points):
        assert rate is None or rate >= 0
        assert (minute - 60, tags) in there
    assert sorted(rates(points), key=str) == sorted(rates(reversed(points)), key=str)
