"""Label matchers, with RE2: matching takes time in proportion to the text. Pure.

Compiling does not: an expression of a few characters may take its megabyte of memory and some
hundredths of a second. So expressions are short, few, and the time is looked at between them. RE2
releases the interpreter's lock meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import re2

from metrics.prometheus_api.errors import QueryError
from metrics.prometheus_api.promql import Match

MAX_PATTERN = 1_000
"""Characters of a regular expression, unless it only lists values: Grafana writes out thousands."""

_MAX_PROGRAM_BYTES = 1 << 20
_ESCAPED = r"\\[!-/:-@\[-^`{-~]"
_LISTED = re.compile(rf"(?:[^\\.+*?()|\[\]{{}}^$]|{_ESCAPED}|\|)*+")
_PIECE = re.compile(rf"\||{_ESCAPED}|[^\\|]++")


@dataclass(frozen=True, slots=True)
class Matcher:
    """A compiled condition; an absent label is the empty string."""

    label: str
    fits: Callable[[str], bool]


def matchers(matches: Sequence[Match], check: Callable[[], None] = lambda: None) -> list[Matcher]:
    """Return the compiled conditions.

    Args:
        matches: the conditions of one selector; none fit everything.
        check: called before each expression is compiled; it may raise to end the query.

    Raises:
        QueryError: a regular expression is invalid or too large, or all conditions fit a series
            that has none of the labels, which Prometheus refuses too.
    """
    compiled = []
    for match in matches:
        check()
        compiled.append(Matcher(match.label, _test(match)))
    if compiled and all(one.fits("") for one in compiled):
        raise QueryError(
            "query: a selector must have a name or a condition that no empty label fits"
        )
    return compiled


def listed(pattern: str) -> frozenset[str] | None:
    """Return the values of a pattern that only lists them, such as ``(web-1|web-2)``.

    None for any other pattern. Takes time in proportion to the text.
    """
    if pattern.startswith("(") and pattern.endswith(")"):
        pattern = pattern[1:-1]
    if not _LISTED.fullmatch(pattern):
        return None
    if "\\" not in pattern:
        return frozenset(pattern.split("|"))
    values: set[str] = set()
    current: list[str] = []
    for piece in _PIECE.findall(pattern):
        if piece == "|":
            values.add("".join(current))
            current = []
        else:
            current.append(piece[1:] if piece.startswith("\\") else piece)
    values.add("".join(current))
    return frozenset(values)


def fit(conditions: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Return whether labels fulfil all conditions."""
    return all(one.fits(labels.get(one.label, "")) for one in conditions)


def split(
    conditions: Sequence[Matcher], names: Iterable[str]
) -> tuple[list[Matcher], list[Matcher]]:
    """Return the conditions on the labels ``names``, and the others."""
    chosen = set(names)
    return (
        [one for one in conditions if one.label in chosen],
        [one for one in conditions if one.label not in chosen],
    )


def _test(match: Match) -> Callable[[str], bool]:
    wanted = match.value
    if match.operator == "=":
        return lambda text: text == wanted
    if match.operator == "!=":
        return lambda text: text != wanted
    values = listed(match.value)
    if values is not None:
        return values.__contains__ if match.operator == "=~" else lambda text: text not in values
    pattern = _compiled(match)
    if match.operator == "=~":
        return lambda text: pattern.fullmatch(text) is not None
    return lambda text: pattern.fullmatch(text) is None


def _compiled(match: Match) -> re2._Regexp:
    if len(match.value) > MAX_PATTERN:
        msg = (
            f"query: {match.label}{match.operator}: use at most {MAX_PATTERN:,} characters for a"
            " regular expression that does more than list values"
        )
        raise QueryError(msg)
    options = re2.Options()
    options.max_mem = _MAX_PROGRAM_BYTES
    options.log_errors = False
    options.dot_nl = True  # as in Prometheus: a dot is any character
    try:
        return re2.compile(match.value, options)
    except re2.error as exc:
        why = exc.args[0].decode(errors="replace") if exc.args else "not a regular expression"
        msg = f"query: {match.label}{match.operator}: {why[:200]}"
        raise QueryError(msg) from exc
