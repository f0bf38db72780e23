"""Query text as it reaches the library that parses it: bounded, and without its conditions. Pure.

The library is foreign code that holds the interpreter's lock, so it gets nothing whose cost is not
in proportion to its length: it compiles regular expressions, so none reaches it; and its tree costs
the square of its depth, so text that may nest deeply is refused before. It panics at times that are
no times (``offset 1e400``), with lines on standard error, so those are refused, too.

Every condition on a label (``a!~"x"``) becomes an equality whose value begins with a letter for the
operator (``a="Nx"``). :func:`condition` reads it back. Values are never empty then, so what the
library checks of empty ones is for :func:`metrics.prometheus_api.matchers.matchers`.
"""

from __future__ import annotations

import re
from typing import Literal

from metrics.prometheus_api.errors import QueryError

Operator = Literal["=", "!=", "=~", "!~"]

MAX_LENGTH = 262_144
"""Grafana writes out every value of a variable: queries with thousands of pods are common."""

MAX_OUTSIDE_STRINGS = 2_048
MAX_MATCHERS = 64
MAX_DEPTH = 100
"""Opening parentheses and operators together: each may make the tree a level deeper."""

_LETTERS: dict[str, str] = {"=": "e", "!=": "n", "=~": "E", "!~": "N"}
_OPERATORS: dict[str, Operator] = {"e": "=", "n": "!=", "E": "=~", "N": "!~"}

# A string that is not closed reaches to the end; possessive, so no character is looked at twice.
_STRING = r"""\"(?:[^\"\\]|\\.)*+(?:\"|\\?\Z)|'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|`[^`]*+(?:`|\Z)"""
_TOKEN = re.compile(
    rf"(?P<comment>\#[^\r\n]*+)|(?P<string>{_STRING})|(?P<match>=~|!~|!=|=(?!=))"
    r"|(?P<deeper>\(|[-+*/%^<>]|==|\b(?:and|or|unless|atan2)\b)|(?P<space>\s++)"
    r"|(?P<number>(?:\d|\.\d)[\w.]*+(?:(?<=e)[-+]\d++)?)|(?P<other>\w++|.)",
    re.DOTALL | re.IGNORECASE,
)

_TIME = re.compile(r"\d{1,9}(?:\.\d{1,9})?|(?:\d{1,9}(?:ms|[smhdwy]))+")
_BEFORE_TIMES = ("offset", "[", ":")


def prepare(text: str) -> str:
    """Return a query as the library may have it.

    Raises:
        QueryError: it is empty, too long, has too many conditions, or may be nested too deeply.
    """
    if not text.strip():
        raise QueryError("query: it is empty")
    if len(text) > MAX_LENGTH:
        raise QueryError(f"query: use at most {MAX_LENGTH} characters")
    tokens = [(str(found.lastgroup), found[0]) for found in _TOKEN.finditer(text)]
    _check_amount(tokens)
    _check_times(tokens)
    parts: list[str] = []
    operator = ""  # of a condition whose value comes next
    for kind, found in tokens:
        if kind == "comment":
            parts.append(" ")
        elif kind == "space":
            parts.append(found)
        elif kind == "string" and operator:
            parts += "=", _as_value(found, operator)
            operator = ""
        else:
            parts.append(operator)
            operator = found if kind == "match" else ""
            parts.append("" if operator else _plain(found))
    return "".join([*parts, operator])


def condition(value: str) -> tuple[Operator, str]:
    """Return the operator and the value of a condition that :func:`prepare` has written."""
    return _OPERATORS[value[0]], value[1:]


def quoted(text: str) -> str:
    """Return ``text`` as a PromQL string."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def _check_amount(tokens: list[tuple[str, str]]) -> None:
    outside = sum(len(found) for kind, found in tokens if kind != "string")
    if outside > MAX_OUTSIDE_STRINGS:
        raise QueryError(f"query: use at most {MAX_OUTSIDE_STRINGS} characters outside of strings")
    kinds = [kind for kind, _ in tokens]
    if kinds.count("match") > MAX_MATCHERS:
        raise QueryError(f"query: use at most {MAX_MATCHERS} conditions on labels")
    if kinds.count("deeper") > MAX_DEPTH:
        raise QueryError(f"query: use at most {MAX_DEPTH} parentheses and operators")


def _check_times(tokens: list[tuple[str, str]]) -> None:
    """Refuse what stands for a time and is none, or one beyond all bounds."""
    expected = False
    for kind, found in tokens:
        if kind in ("comment", "space") or found in ("+", "-"):
            continue
        is_time = kind == "number" or found.lower() in ("inf", "nan")
        if expected and is_time and not _TIME.fullmatch(found):
            raise QueryError(f"query: {found[:50]!r} is out of bounds; give a time such as 5m")
        expected = found.lower() in _BEFORE_TIMES


def _as_value(string: str, operator: str) -> str:
    """Return the string of a condition with the letter of its operator in front."""
    plain = _plain(string)
    return plain[0] + _LETTERS[operator] + plain[1:]


def _plain(token: str) -> str:
    """Return a token, quoted if it is between backticks, in which nothing is escaped.

    The library reads escapes in them too. One that is not closed is left to its refusal.
    """
    if token.startswith("`") and len(token) > 1 and token.endswith("`"):
        return quoted(token[1:-1])
    return token
