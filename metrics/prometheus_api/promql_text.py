"""Query text as it reaches the library that parses it: bounded, and without its conditions. Pure.

The library is foreign code that holds the interpreter's lock, so it gets nothing whose cost is not
in proportion to its length: it compiles regular expressions, so none reaches it; and its tree costs
the square of its depth, so text that may nest deeply is refused before.

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
    r"|(?P<deeper>\(|[-+*/%^<>]|==|\b(?:and|or|unless|atan2)\b)|(?P<space>\s++)|(?P<other>\w++|.)",
    re.DOTALL | re.IGNORECASE,
)


def prepare(text: str) -> str:
    """Return a query as the library may have it.

    Raises:
        QueryError: it is empty, too long, has too many conditions, or may be nested too deeply.
    """
    if not text.strip():
        raise QueryError("query: it is empty")
    if len(text) > MAX_LENGTH:
        raise QueryError(f"query: use at most {MAX_LENGTH} characters")
    parts: list[str] = []
    outside = matchers = deeper = 0
    operator = ""  # of a condition whose value comes next
    for token in _TOKEN.finditer(text):
        kind, found = token.lastgroup, token[0]
        if kind != "string":
            outside += len(found)
        if kind == "comment":
            parts.append(" ")
        elif kind == "space":
            parts.append(found)
        elif kind == "string" and operator:
            matchers += 1
            parts += "=", _as_value(found, operator)
            operator = ""
        else:
            parts.append(operator)
            operator = found if kind == "match" else ""
            deeper += kind == "deeper"
            parts.append("" if operator else _plain(found))
    parts.append(operator)
    _check(outside, matchers, deeper)
    return "".join(parts)


def condition(value: str) -> tuple[Operator, str]:
    """Return the operator and the value of a condition that :func:`prepare` has written."""
    return _OPERATORS[value[0]], value[1:]


def quoted(text: str) -> str:
    """Return ``text`` as a PromQL string."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def _check(outside: int, matchers: int, deeper: int) -> None:
    if outside > MAX_OUTSIDE_STRINGS:
        raise QueryError(f"query: use at most {MAX_OUTSIDE_STRINGS} characters outside of strings")
    if matchers > MAX_MATCHERS:
        raise QueryError(f"query: use at most {MAX_MATCHERS} conditions on labels")
    if deeper > MAX_DEPTH:
        raise QueryError(f"query: use at most {MAX_DEPTH} parentheses and operators")


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
