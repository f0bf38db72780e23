"""PromQL text and the tree that is evaluated: what is taken, what is refused, and how."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.prometheus_api.errors import QueryError, UnsupportedError
from metrics.prometheus_api.promql import (
    Aggregate,
    Match,
    Number,
    Selector,
    parse,
    parse_selector,
    quoted,
)
from tests.examples import examples

LABELS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
WORDS = st.from_regex(r"[a-z.|()*+]{1,10}", fullmatch=True).filter(lambda text: _is_regex(text))
PLAIN = st.builds(Match, LABELS, st.sampled_from(("=", "!=")), TEXTS)
REGULAR = st.builds(Match, LABELS, st.sampled_from(("=~", "!~")), WORDS)
NAMED = st.builds(lambda name: Match("__name__", "=", name), LABELS)
SELECTORS = st.builds(
    lambda name, rest, offset: Selector((name, *rest), offset),
    NAMED, st.lists(PLAIN | REGULAR, max_size=3), st.integers(1 - 10**9, 10**9 - 1),
)  # fmt: skip
GROUPED = ("sum", "avg", "min", "max", "count", "group")
LISTS = st.lists(LABELS, max_size=3).map(tuple)


def _is_regex(text: str) -> bool:
    try:
        parse(f"m{{a=~{quoted(text)}}}")
    except QueryError:
        return False
    return True


def aggregates(of):
    return st.builds(
        Aggregate, st.sampled_from(GROUPED), of, LISTS, st.booleans()
    ) | st.builds(
        Aggregate, st.sampled_from(("topk", "bottomk")), of, LISTS, st.booleans(),
        st.integers(0, 1000),
    )  # fmt: skip


TREES = st.recursive(SELECTORS, aggregates, max_leaves=5)


@given(TREES)
@settings(deadline=None)
def test_a_printed_tree_is_read_as_the_same_tree(tree):
    assert parse(str(tree)) == tree


@given(st.text(max_size=60) | st.text("(){}[]\"'`=!~,+-*/@ab1 mbysumoffset\n", max_size=80))
@settings(deadline=None, max_examples=examples(300))
def test_any_text_is_read_or_refused(text):
    refused = None
    try:
        parse(text)
    except QueryError as exc:
        refused = exc
    assert refused is None or (refused.status in (400, 422) and str(refused))


@pytest.mark.parametrize("text", ["(" * 2000 + "m" + ")" * 2000, "-" * 2047 + "m",
                                  "sum(" * 500 + "m" + ")" * 500, "m+" * 1000 + "m",
                                  'm{a="' + "x" * 300_000 + '"}'])  # fmt: skip
def test_what_nests_deeply_or_is_long_is_refused(text):
    with pytest.raises(QueryError, match=r"deep|character|parentheses|not supported"):
        parse(text)


@pytest.mark.parametrize("quote", ['"', "'", "`"])
def test_what_nests_deeply_between_quotes_in_comments_is_refused(quote):
    # The parser would overflow the stack, and the process with it.
    with pytest.raises(QueryError, match="outside of strings"):
        parse(f"#{quote}\n{'(' * 15_000}m{')' * 15_000}#{quote}")


def test_a_comment_is_taken():
    assert parse('m # the "mean"') == parse("m")


def test_a_long_regular_expression_is_taken():
    text = "|".join(f"web-{n}-abcdef" for n in range(1500))
    (_, match) = parse(f'm{{pod=~"{text}"}}').matches
    assert match.value == text


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("m", Selector((Match("__name__", "=", "m"),))),
        ('{__name__="m"}', Selector((Match("__name__", "=", "m"),))),
        ("m offset 1h30m", Selector((Match("__name__", "=", "m"),), 5_400_000)),
        ("m offset -5m", Selector((Match("__name__", "=", "m"),), -300_000)),
        ("1+1", Number(2)),
        ("-(2*3)/4", Number(-1.5)),
        ("1/0", Number(math.inf)),
    ],
)
def test_texts_and_their_trees(text, tree):
    assert parse(text) == tree


def test_escapes_in_strings_mean_what_they_do_in_prometheus():
    (_, match) = parse(r'm{a="\"\\\n\u00e9"}').matches
    assert match.value == '"\\\né'
    (_, match) = parse(r"m{a=`\n`}").matches
    assert match.value == r"\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"m{a=~`n\d+\.example`}", r"n\d+\.example"),
        (r"""m{a=~`"\d\\'` }""", r""""\d\\'"""),
        ("m{a=~`x\ny`}", "x\ny"),
        ("# it's `so\nm{a=~`b`}", "b"),
        ("m{a=~'`[.]`'}", "`[.]`"),
    ],
)
def test_nothing_is_escaped_between_backticks(text, value):
    assert parse(text).matches[1] == Match("a", "=~", value)


def test_a_text_between_backticks_that_does_not_end_is_refused():
    with pytest.raises(QueryError, match="unterminated"):
        parse("m{a=`b}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rate(m[5m])", r"function rate\(\) is not supported .*stored as rates"),
        ("histogram_quantile(0.9, m)", r"histogram_quantile\(\)"),
        ("m[5m]", "range of time in brackets"),
        ("m[5m:1m]", "subqueries"),
        ("m + m", r"\+ on series"),
        ("m > 5", "> on series"),
        ("-m", "sign before a series"),
        ("2 ^ 3", r"operator \^"),
        ("stddev(m)", "aggregation stddev"),
        ("quantile(0.5, m)", "aggregation quantile"),
        ("topk(scalar(m), m)", r"scalar\(\)"),
        ("m @ 1", "@ modifier"),
        ('{__name__="m" or a="b"}', "'or' between"),
        ('"text"', "strings"),
    ],
)
def test_promql_beyond_ours_is_refused_by_name(text, says):
    with pytest.raises(UnsupportedError, match=says):
        parse(text)


@pytest.mark.parametrize(
    "text", ["", "  ", "m{", "sum(", "m{a=~}", "topk(m)", "sum(1)", "{}", "m offset",
             "m offset inf", "m offset 1e400", "m offset -nan"]
)  # fmt: skip
def test_what_is_no_promql_is_bad_data(text):
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert (caught.value.status, caught.value.error_type) == (400, "bad_data")


def test_match_arguments_are_plain_selectors():
    assert parse_selector("m").matches == (Match("__name__", "=", "m"),)
    for text in ("sum(m)", "1", "m offset 5m"):
        with pytest.raises(QueryError, match="match"):
            parse_selector(text)
