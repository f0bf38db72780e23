"""Checks of single values in an agent's JSON. Pure; all raise BadResponseError, saying where."""

from __future__ import annotations

from typing import Any, cast

from metrics.series.windows import MINUTE
from metrics.sources.validation import MAX_MOMENT
from opscenter.core.errors import BadResponseError


def integers(values: list[Any], where: str) -> None:
    """Refuse a list that holds anything but whole numbers: no booleans, floats or nulls."""
    if set(map(type, values)) != {int}:
        strange = next(value for value in values if type(value) is not int)
        msg = f"{where}: {type(strange).__name__} where a whole number is expected"
        raise BadResponseError(msg, problem="bad_value")


def minute(value: object, where: str) -> int:
    """Return the start of a minute in Unix seconds."""
    if type(value) is not int or value % MINUTE or not 0 <= value <= MAX_MOMENT:
        msg = f"{where}: not the start of a minute in Unix seconds"
        raise BadResponseError(msg, problem="bad_value")
    return value


def optional_minute(value: object, where: str) -> int | None:
    """Return the start of a minute in Unix seconds, or None."""
    return None if value is None else minute(value, where)


def clock(value: object, where: str) -> float:
    """Return a time in Unix seconds."""
    if type(value) not in (int, float):
        msg = f"{where}: not a number"
        raise BadResponseError(msg, problem="bad_value")
    number = cast("float", value)
    if not 0 <= number <= MAX_MOMENT:  # false for NaN too
        msg = f"{where}: not a time in Unix seconds"
        raise BadResponseError(msg, problem="bad_value")
    return float(number)
