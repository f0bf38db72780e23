"""Conditions on labels: what they fit, what they cost, and what is refused."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.prometheus_api.errors import DeadlineError, QueryError
from metrics.prometheus_api.matchers import MAX_PATTERN, listed, matchers
from metrics.prometheus_api.promql import Match
from tests.examples import examples


def fits(pattern: str, text: str) -> bool:
    [one] = matchers([Match("a", "=~", pattern)])
    return one.fits(text)


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("web", {"web"}),
        ("web-1|web-2", {"web-1", "web-2"}),
        ("(web-1|web-2)", {"web-1", "web-2"}),
        (r"a\.b|c\|d|\(e\)", {"a.b", "c|d", "(e)"}),
        (r"\\|x", {"\\", "x"}),
        ("a|", {"a", ""}),
        ("", {""}),
    ],
)
def test_a_list_of_values_is_a_set(pattern, values) -> None:
    assert listed(pattern) == values


@pytest.mark.parametrize(
    "pattern", ["a.b", "a+", "[ab]", "(?i)a", "(a)|(b)", "a{2}", "^a$", r"\d", r"a\n", "a\\", "(a"]
)
def test_whatever_does_more_is_none(pattern) -> None:
    assert listed(pattern) is None


@given(st.text(r"ab1-_.|\()*$", max_size=12), st.text("ab1-_.|()", max_size=4))
@settings(deadline=None, max_examples=examples(400))
def test_a_set_fits_what_the_expression_would(pattern, text) -> None:
    values = listed(pattern)
    if values is not None:
        assert (text in values) == (re2.fullmatch(pattern, text) is not None)


def test_a_list_of_values_may_be_long_and_another_expression_may_not() -> None:
    pods = "|".join(f"web-{n}" for n in range(20_000))

    assert fits(pods, "web-19999")
    with pytest.raises(QueryError, match=f"at most {MAX_PATTERN:,} characters"):
        matchers([Match("a", "!~", pods + "|.")])


@pytest.mark.parametrize("pattern", ["(", "[", "x{1000}{1000}", "a**b(", "(?P<a"])
def test_what_re2_refuses_is_bad_data(pattern) -> None:
    with pytest.raises(QueryError) as refused:
        matchers([Match("a", "=~", pattern)])

    assert (refused.value.status, refused.value.error_type) == (400, "bad_data")


@pytest.mark.parametrize(
    "match",
    [
        Match("a", "=", ""), Match("a", "!=", "x"), Match("a", "=~", ".*"), Match("a", "=~", "x|"),
        Match("a", "!~", ".+"),
    ],
)  # fmt: skip
def test_conditions_that_an_empty_label_fits_do_not_make_a_selector(match) -> None:
    with pytest.raises(QueryError, match="no empty label fits"):
        matchers([match])

    assert len(matchers([match, Match("__name__", "=", "m")])) == 2


@pytest.mark.parametrize("match", [Match("a", "!~", ".*"), Match("a", "!=", "")])
def test_conditions_that_no_empty_label_fits_do(match) -> None:
    assert matchers([match])


def test_the_time_is_looked_at_before_each_expression() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(len(asked))
        if len(asked) == 3:
            raise DeadlineError("no time is left")

    with pytest.raises(DeadlineError):
        matchers([Match("a", "=~", f"x{n}.*") for n in range(50)], check)
    assert len(asked) == 3
