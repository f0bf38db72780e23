"""Reads single fields of Kubernetes' JSON.

Pure. Everything in an answer is optional, as in Kubernetes' own types, and may be of any type: what
is absent or of another type is None or "", never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

_QUANTITY = re.compile(r"([+-]?(?:\d++(?:\.\d*+)?|\.\d++))(?:([eE][+-]?\d+)|([numkKMGTPE]i?))?$")
_SUFFIX = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "E": 1e18, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip


def quantity(value: object) -> float | None:
    """Return a resource quantity (``2``, ``1500m``, ``3948464Ki``, ``1e3``); None if it is none.

    Source: Kubernetes' ``resource.Quantity``, decimal and binary suffixes.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    match = _QUANTITY.match(str(value).strip())
    if match is None:
        return None
    number, exponent, suffix = match.groups()
    if suffix and suffix not in _SUFFIX:
        return None
    return float(number + (exponent or "")) * (_SUFFIX[suffix] if suffix else 1)


def timestamp(value: object) -> float | None:
    """Return an RFC 3339 time as Unix seconds; None if it is none.

    Go writes a time that was never set as the year 1, some container runtimes as 1970: none either.
    """
    if not isinstance(value, str):
        return None
    # Go writes nanoseconds; fromisoformat of Python 3.11 and later cuts them.
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    if parsed.tzinfo is None or parsed.year <= 1970:
        return None
    return parsed.timestamp()


def number(data: object, *path: str) -> float | None:
    """Return the number at ``path``; None if it is absent or no number."""
    value = child(data, *path)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def child(data: object, *path: str) -> Any:
    """Return what is at ``path`` in nested objects; None if it is absent."""
    for name in path:
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def children(data: object, *path: str) -> list[dict[str, Any]]:
    """Return the objects of the list at ``path``; empty if it is absent."""
    value = child(data, *path)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(data: object, *path: str) -> str:
    """Return the text at ``path``; "" if it is absent or no text."""
    value = child(data, *path)
    return value if isinstance(value, str) else ""


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
