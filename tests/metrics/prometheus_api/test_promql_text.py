"""What of a query reaches foreign code, and what is refused before."""

from __future__ import annotations

import promql_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.prometheus_api.errors import QueryError
from metrics.prometheus_api.promql import Match, Selector, parse
from metrics.prometheus_api.promql_text import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_MATCHERS,
    Operator,
    condition,
    prepare,
    quoted,
)
from tests.examples import examples

COSTLY = r"[\\pL\\pN]{200}x"  # ten megabytes of a program and 40 ms each


def conditions(number: int) -> str:
    return "{" + ",".join(['cluster!=""', *(f'a!~"{COSTLY}{n}"' for n in range(1, number))]) + "}"


@pytest.mark.parametrize("number", [2, MAX_MATCHERS])
def test_no_regular_expression_reaches_the_parser(number) -> None:
    text = prepare(conditions(number))

    assert "~" not in text
    assert len(text) <= len(conditions(number))


@pytest.mark.parametrize("broken", ["[", "(", "+", "(?P<a"])
def test_what_is_no_regular_expression_is_nothing_to_the_parser(broken) -> None:
    with pytest.raises(ValueError, match="regex"):
        promql_parser.parse(f'{{a=~"{broken}"}}')

    assert parse(f'{{a=~"{broken}"}}') == Selector((Match("a", "=~", broken),))


def test_many_conditions_are_refused_before_anything_looks_at_them() -> None:
    with pytest.raises(QueryError, match=f"at most {MAX_MATCHERS} conditions"):
        prepare(conditions(280))


@pytest.mark.parametrize(
    "text",
    [
        "(" * (MAX_DEPTH + 1), "1" + "+1" * (MAX_DEPTH + 1), "1" + "^1" * 500, "m or " * 200 + "m",
        "m OR " * 200 + "m", "m == " * 200 + "m", "abs(" * 500,
    ],
)  # fmt: skip
def test_what_could_nest_deeply_is_refused_before_it_is_a_tree(text) -> None:
    with pytest.raises(QueryError, match=f"at most {MAX_DEPTH} parentheses and operators"):
        prepare(text)


@pytest.mark.parametrize(
    "text",
    ['\\"' * (MAX_LENGTH // 2), "'" + "\\'" * 131_000, "`" + "\\" * 262_000, '"\\' * 131_000],
)
def test_a_string_that_does_not_end_is_read_once(text) -> None:
    # Were it read again from each of its quotes, this test would take hours.
    assert prepare(text)


@pytest.mark.parametrize("time", ["inf", "NaN", "1e400", "1.5e300", "1E+20", "9" * 30, "0x1f"])
@pytest.mark.parametrize("form", ["m offset {}", "m offset - {}", "m[{}]", "m[5m: {}]"])
def test_a_time_at_which_the_parser_panics_does_not_reach_it(form, time) -> None:
    with pytest.raises(QueryError, match="out of bounds"):
        prepare(form.format(time))


@pytest.mark.parametrize(
    "text", ["m offset 1h30m", "m offset -5m", "m offset 1.5", "m[5m:1m]", "1e400"]
)
def test_other_times_and_numbers_do(text) -> None:
    assert prepare(text) == text


def test_a_text_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(QueryError, match="characters"):
        prepare("x" * (MAX_LENGTH + 1))


@pytest.mark.parametrize(
    "text",
    [
        'm{a=~"b"}', "m{a =~ 'b'}", "m{a=~`b`}", 'm{a=~ # why\n "b"}', 'm{ # "\na=~"b"}',
        'm{a\n=~\n"b" , }',
    ],
)  # fmt: skip
def test_a_condition_is_found_wherever_it_may_stand(text) -> None:
    assert "~" not in prepare(text)
    assert parse(text) == Selector((Match("__name__", "=", "m"), Match("a", "=~", "b")))


def test_a_value_that_looks_like_one_of_ours_is_still_the_callers() -> None:
    assert parse('{a="Ex",b="=~x",c!=""}') == Selector(
        (Match("a", "=", "Ex"), Match("b", "=", "=~x"), Match("c", "!=", ""))
    )


@given(
    st.lists(
        st.tuples(st.sampled_from(["=", "!=", "=~", "!~"]), st.text(max_size=8)),
        min_size=1, max_size=5,
    )
)  # fmt: skip
@settings(deadline=None, max_examples=examples(200))
def test_every_condition_is_read_back_as_it_was_written(pairs: list[tuple[Operator, str]]) -> None:
    text = "{" + ",".join(f"l{n}{op}{quoted(value)}" for n, (op, value) in enumerate(pairs)) + "}"
    expected = tuple(Match(f"l{n}", op, value) for n, (op, value) in enumerate(pairs))

    assert parse(text) == Selector(expected)


@pytest.mark.parametrize("operator", ["=", "!=", "=~", "!~"])
def test_each_operator_has_a_letter(operator: Operator) -> None:
    value = prepare(f'{{a{operator}"x"}}').split('"')[1]

    assert condition(value) == (operator, "x")
