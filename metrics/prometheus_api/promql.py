"""Parsing of PromQL text into the small tree that is evaluated here.

The library ``promql-parser`` parses the text, so that refusals can be distinguished: text that is
not PromQL (400), and PromQL that is not supported here (422). What reaches it is bounded, and has
no regular expressions in it: :mod:`metrics.prometheus_api.promql_text`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import add, mul, sub
from typing import Literal, cast

import promql_parser as promql

from metrics.prometheus_api.errors import QueryError, UnsupportedError
from metrics.prometheus_api.promql_text import Operator, condition, prepare, quoted

Aggregation = Literal["sum", "avg", "min", "max", "count", "group", "topk", "bottomk"]

MAX_NESTING = 50
_AGGREGATIONS = ("sum", "avg", "min", "max", "count", "group", "topk", "bottomk")
_SUPPORTED = (
    "Ops Center answers selectors, offset, and sum, avg, min, max, count, group, topk and bottomk"
)


@dataclass(frozen=True, slots=True)
class Match:
    """One condition on a label; the metric's name is the label ``__name__``."""

    label: str
    operator: Operator
    value: str

    def __str__(self) -> str:
        return f"{self.label}{self.operator}{quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by their labels, ``offset_ms`` milliseconds before the requested time."""

    matches: tuple[Match, ...]
    offset_ms: int = 0

    def __str__(self) -> str:
        text = "{" + ",".join(str(match) for match in self.matches) + "}"
        return f"{text} offset {duration_text(self.offset_ms)}" if self.offset_ms else text


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Series aggregated by group; ``labels`` are kept, or with ``without`` left out."""

    operator: Aggregation
    of: Selector | Aggregate
    labels: tuple[str, ...] = ()
    without: bool = False
    count: int | None = None  # of topk and bottomk

    def __str__(self) -> str:
        labels = ", ".join(self.labels)
        head = f"{self.operator} {'without' if self.without else 'by'} ({labels})"
        argument = "" if self.count is None else f"{self.count}, "
        return f"{head} ({argument}{self.of})"


@dataclass(frozen=True, slots=True)
class Number:
    """A constant, also the result of arithmetic on constants."""

    value: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "NaN"
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(self.value, repr(self.value))


Expression = Selector | Aggregate | Number


def parse(text: str) -> Expression:
    """Return the tree of a query.

    Raises:
        QueryError: it is not PromQL, or too long.
        UnsupportedError: it is PromQL that Ops Center does not support.
    """
    return _convert(_parsed(text))


def parse_selector(text: str) -> Selector:
    """Return a ``match[]`` argument.

    Raises:
        QueryError: it is not a selector.
        UnsupportedError: it is one that Ops Center does not support.
    """
    found = parse(text)
    if not isinstance(found, Selector) or found.offset_ms:
        raise QueryError('match[]: give a selector, such as opscenter_node_cpu_mc{node="a"}')
    return found


def duration_text(milliseconds: int) -> str:
    """Return a PromQL duration, with a leading sign if it is negative."""
    return f"{'-' if milliseconds < 0 else ''}{abs(milliseconds)}ms"


def _parsed(text: str) -> promql.Expr:
    bounded = prepare(text)
    try:
        return promql.parse(bounded)
    except ValueError as exc:
        msg = f"query: {str(exc)[:300]}"
        raise QueryError(msg) from exc
    except RecursionError as exc:
        raise UnsupportedError("query: it is nested too deeply") from exc
    except BaseException as exc:
        # A panic of the library's Rust code, which "except Exception" would not catch.
        if type(exc).__name__ != "PanicException":
            raise
        raise QueryError("query: a number in it is out of bounds") from exc


def _convert(expr: promql.Expr, depth: int = 0) -> Expression:
    if depth > MAX_NESTING:
        raise UnsupportedError("query: it is nested too deeply")
    if isinstance(expr, promql.ParenExpr):
        return _convert(expr.expr, depth + 1)
    if isinstance(expr, promql.NumberLiteral):
        return Number(expr.val)
    if isinstance(expr, promql.VectorSelector):
        return _selector(expr)
    if isinstance(expr, promql.AggregateExpr):
        return _aggregate(expr, depth)
    if isinstance(expr, promql.UnaryExpr):
        return Number(-_constant(expr.expr, depth, "a sign before a series"))
    if isinstance(expr, promql.BinaryExpr):
        return _arithmetic(expr, depth)
    raise UnsupportedError(_refusal(expr))


def _refusal(expr: promql.Expr) -> str:
    if isinstance(expr, promql.Call):
        name = expr.func.name
        hint = " (what is counted is stored as rates already)" if "rate" in name else ""
        return f"the function {name}() is not supported{hint}. {_SUPPORTED}."
    what = {
        promql.MatrixSelector: "a range of time in brackets is",
        promql.SubqueryExpr: "subqueries are",
        promql.StringLiteral: "strings are",
    }.get(type(expr), "this expression is")
    return f"{what} not supported. {_SUPPORTED}."


def _selector(expr: promql.VectorSelector) -> Selector:
    if expr.at is not None:
        raise UnsupportedError(f"the @ modifier is not supported. {_SUPPORTED}.")
    if expr.matchers.or_matchers:
        raise UnsupportedError(f"'or' between label matchers is not supported. {_SUPPORTED}.")
    matches = [Match(m.name, *condition(m.value)) for m in expr.matchers.matchers]
    if expr.name:
        matches.insert(0, Match("__name__", "=", expr.name))
    offset = 0 if expr.offset is None else round(expr.offset.total_seconds() * 1000)
    return Selector(tuple(matches), offset)


def _aggregate(expr: promql.AggregateExpr, depth: int) -> Aggregate:
    operator = str(expr.op)
    if operator not in _AGGREGATIONS:
        raise UnsupportedError(f"the aggregation {operator} is not supported. {_SUPPORTED}.")
    of = _convert(expr.expr, depth + 1)
    if isinstance(of, Number):
        raise QueryError(f"query: {operator} needs series, not a number")
    count = None
    if operator in ("topk", "bottomk"):
        if expr.param is None:
            raise QueryError(f"query: {operator} needs how many, such as {operator}(5, m)")
        count = _count(_constant(expr.param, depth, f"how many {operator} gives from series"))
    labels: tuple[str, ...] = ()
    without = False
    if expr.modifier is not None:
        labels = tuple(expr.modifier.labels)
        without = expr.modifier.type != promql.AggModifierType.By
    return Aggregate(cast("Aggregation", operator), of, labels, without, count)


def _count(value: float) -> int:
    """Return the length of a top list: as in Prometheus, truncated to an integer, at least 0."""
    if math.isnan(value):
        raise QueryError("query: the number of topk is NaN")
    return int(max(0, min(value, 1_000_000)))


def _constant(expr: promql.Expr, depth: int, what: str) -> float:
    found = _convert(expr, depth + 1)
    if not isinstance(found, Number):
        raise UnsupportedError(f"{what} is not supported. {_SUPPORTED}.")
    return found.value


def _arithmetic(expr: promql.BinaryExpr, depth: int) -> Number:
    """Evaluate arithmetic on constants, with which Grafana tests a data source (``1+1``)."""
    operator = str(expr.op)
    what = f"{operator} on series"
    left, right = (_constant(side, depth, what) for side in (expr.lhs, expr.rhs))
    known: dict[str, Callable[[float, float], float]] = {
        "+": add, "-": sub, "*": mul, "/": _divided,
    }  # fmt: skip
    if operator not in known:
        raise UnsupportedError(f"the operator {operator} is not supported. {_SUPPORTED}.")
    return Number(known[operator](left, right))


def _divided(left: float, right: float) -> float:
    """Return ``left / right`` as in IEEE 754: Python refuses to divide by zero."""
    if right:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1, right)
