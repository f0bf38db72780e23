"""Checks of untrusted text, times and JSON from a cluster."""

from __future__ import annotations

import unicodedata
from typing import Any

from opscenter.core.errors import BadResponseError

MAX_MOMENT = 4_102_444_800  # 2100 in Unix seconds: no real data is later, and datetime can hold it
MAX_NAME = 253  # as in Kubernetes; of raw text, before control characters are removed
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def clean_text(value: object, where: str, longest: int) -> str:
    """Return text from a cluster without unprintable characters.

    Removes line breaks, control characters, direction marks and private code points, the same that
    the agent itself removes, so that two of its names never become one here. Markup stays: it is
    escaped where it is shown.

    Raises:
        BadResponseError: if it is not text or longer than ``longest`` characters.
    """
    if type(value) is not str:
        msg = f"{where}: not a text"
        raise BadResponseError(msg, problem="bad_name")
    if len(value) > longest:
        msg = f"{where}: {len(value)} characters; at most {longest} are accepted"
        raise BadResponseError(msg, problem="bad_name")
    if value.isprintable():
        return value
    return "".join(c for c in value if unicodedata.category(c) not in _UNSAFE_CATEGORIES)


def json_object(value: object, where: str) -> dict[str, Any]:
    """Return an object as it is."""
    if type(value) is not dict:
        msg = f"{where}: not an object"
        raise BadResponseError(msg, problem="bad_value")
    return value


def json_list(value: object, where: str) -> list[Any]:
    """Return a list as it is; its entries are not checked."""
    if type(value) is not list:
        msg = f"{where}: not a list"
        raise BadResponseError(msg, problem="bad_value")
    return value
