"""Label matchers, with RE2: matching takes time in proportion to the text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import re2

from metrics.prometheus_api.errors import QueryError
from metrics.prometheus_api.promql import Match

_MAX_PROGRAM_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Matcher:
    """A compiled condition; an absent label is the empty string."""

    label: str
    fits: Callable[[str], bool]


def matchers(matches: Iterable[Match]) -> list[Matcher]:
    """Return the compiled conditions.

    Raises:
        QueryError: a regular expression is invalid, or too large.
    """
    return [Matcher(match.label, _test(match)) for match in matches]


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
    pattern = _compiled(match)
    if match.operator == "=~":
        return lambda text: pattern.fullmatch(text) is not None
    return lambda text: pattern.fullmatch(text) is None


def _compiled(match: Match) -> re2._Regexp:
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
