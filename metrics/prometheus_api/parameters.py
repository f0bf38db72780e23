"""The parameters of Prometheus' API: times, steps, selectors. Pure.

Unknown parameters are ignored, as in Prometheus: clients send those of other versions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from metrics.prometheus_api.errors import QueryError
from metrics.prometheus_api.promql import Match, parse_selector
from metrics.prometheus_api.promql_text import MAX_MATCHERS
from metrics.prometheus_api.sampling import Grid
from metrics.series.windows import DAY

MAX_POINTS = 11_000
MAX_SELECTORS = 32
_LATEST_SECONDS = 2**40
_LONGEST_SECONDS = 10 * 366 * DAY
_LONGEST_TEXT = 40  # characters of a number or a duration
_DURATION = re.compile(
    "".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in ("y", "w", "d", "h", "m(?!s)", "s", "ms"))
)
_UNIT_MILLISECONDS = [1000 * seconds for seconds in (365 * DAY, 7 * DAY, DAY, 3600, 60, 1)] + [1]


class Given(Protocol):
    """The parameters of a request, by name."""

    def get(self, name: str, /) -> str | None:
        """Return one value; None if it was not given."""

    def getlist(self, name: str, /) -> Sequence[str]:
        """Return all values."""


def instant_grid(given: Given, now: float) -> Grid:
    """Return the grid of the single time ``time``; now if it is not given.

    Raises:
        QueryError: it is not a time.
    """
    return Grid(_milliseconds(given, "time", now), 0, 1)


def range_grid(given: Given) -> Grid:
    """Return the grid from ``start`` to ``end``, ``step`` apart.

    Raises:
        QueryError: a parameter is missing or invalid, or there are more than 11,000 times.
    """
    start, end = _milliseconds(given, "start"), _milliseconds(given, "end")
    step = round(1000 * duration_seconds(_required(given, "step"), "step"))
    if end < start:
        raise QueryError("end: it must not be before start")
    if end - start > 1000 * _LONGEST_SECONDS:
        raise QueryError("start: the range is longer than ten years")
    if step <= 0:
        raise QueryError("step: it must be positive, at least a millisecond")
    count = (end - start) // step + 1
    if count > MAX_POINTS:
        msg = (
            f"exceeded maximum resolution of {MAX_POINTS:,} points per timeseries."
            " Try decreasing the query resolution (?step=XX)"
        )
        raise QueryError(msg)
    return Grid(start, step, count)


def since_seconds(given: Given) -> int:
    """Return ``start`` in whole seconds, 0 if it is not given; checks ``end`` as well.

    Raises:
        QueryError: one is not a time.
    """
    _milliseconds(given, "end", 0)
    return _milliseconds(given, "start", 0) // 1000


def selectors(given: Given, *, needed: bool = False) -> list[tuple[Match, ...]]:
    """Return each ``match[]`` as its conditions.

    Raises:
        QueryError: one is not a selector, there are too many, or none although ``needed``.
    """
    texts = given.getlist("match[]")
    if needed and not texts:
        raise QueryError("no match[] parameter provided")
    if len(texts) > MAX_SELECTORS:
        msg = f"match[]: use at most {MAX_SELECTORS}"
        raise QueryError(msg)
    found = [parse_selector(text).matches for text in texts]
    if sum(len(matches) for matches in found) > MAX_MATCHERS:
        msg = f"match[]: use at most {MAX_MATCHERS} conditions on labels in all"
        raise QueryError(msg)
    return found


def limit(given: Given) -> int | None:
    """Return ``limit``; None if it is not given or 0.

    Raises:
        QueryError: it is not a number.
    """
    text = given.get("limit")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise QueryError("limit: use a whole number")
    return int(text) or None


def timeout_seconds(given: Given, default: float) -> float:
    """Return ``timeout``, at most ``default``.

    Raises:
        QueryError: it is not a duration.
    """
    text = given.get("timeout")
    return min(default, duration_seconds(text, "timeout")) if text else default


def duration_seconds(text: str, name: str) -> float:
    """Return a duration in seconds, given as a number or as Prometheus writes it (``1h30m``).

    Raises:
        QueryError: it is neither.
    """
    number = _number(text)
    if number is not None:
        return number
    parts = _DURATION.fullmatch(text[: _LONGEST_TEXT + 1])
    if not text or parts is None:
        msg = f"{name}: cannot parse {text[:50]!r} to a valid duration"
        raise QueryError(msg)
    amounts = zip(parts.groups(default="0"), _UNIT_MILLISECONDS, strict=True)
    return sum(int(amount) * unit for amount, unit in amounts) / 1000


def time_text(milliseconds: int) -> float | int:
    """Return a time as Prometheus writes it in JSON: seconds, as an integer if whole."""
    seconds, rest = divmod(milliseconds, 1000)
    return milliseconds / 1000 if rest else seconds


def _milliseconds(given: Given, name: str, default: float | None = None) -> int:
    text = given.get(name)
    if not text:
        if default is None:
            msg = f"{name}: it is missing"
            raise QueryError(msg)
        return round(1000 * default)
    seconds = _number(text)
    if seconds is None:
        seconds = _rfc3339(text, name)
    if not -_LATEST_SECONDS <= seconds <= _LATEST_SECONDS:
        msg = f"{name}: {text[:50]!r} is outside of time"
        raise QueryError(msg)
    return max(0, round(1000 * seconds))


def _number(text: str) -> float | None:
    if not text.isascii() or len(text) > _LONGEST_TEXT or "_" in text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _rfc3339(text: str, name: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        msg = f"{name}: cannot parse {text[:50]!r} to a valid timestamp"
        raise QueryError(msg) from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def _required(given: Given, name: str) -> str:
    text = given.get(name)
    if not text:
        msg = f"{name}: it is missing"
        raise QueryError(msg)
    return text
