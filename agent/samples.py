"""One reading of one series, already safe to store: names cleaned, values bounded.

The names of a machine's mounts, processes and pods are not trusted: one may hold control
characters, terminal escapes or bidirectional marks, or be megabytes long. It is cleaned here,
before the spool, and again by the server, which trusts no agent.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.catalog import FIELDS, Kind

MAX_NAME = 253
"""Longest name, as Kubernetes allows for its objects (a DNS subdomain)."""
MAX_ATTRS = 16
MAX_ATTR_KEY = 64
MAX_ATTR_VALUE = 256
MAX_VALUE = 2**52
"""Largest value: exact as a JSON number everywhere, and sums of many fit 64 bits."""

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one series; make it with :func:`make_sample`.

    Attributes:
        ns: a pod's namespace; a filesystem's node; "" for a node.
        node: the node that a pod runs on; "" for others or when not known.
        attrs: short facts for people, never part of the identity.
        values: in the order of :data:`agent.catalog.FIELDS`; None = not measured.
    """

    kind: Kind
    ns: str
    name: str
    values: tuple[int | None, ...]
    node: str = ""
    attrs: Mapping[str, str] = field(default_factory=dict)


def make_sample(
    kind: Kind,
    name: str,
    values: Mapping[str, float | None],
    *,
    ns: str = "",
    node: str = "",
    attrs: Mapping[str, str] | None = None,
) -> Sample:
    """Return a clean sample.

    ``values`` go by field name; missing fields, None, NaN, infinite and negative values are "not
    measured"; fractions are rounded. Empty attributes are left out, long ones cut.

    Raises:
        KeyError: if ``values`` names a field that the kind does not have.
    """
    fields = FIELDS[kind]
    unknown = values.keys() - set(fields)
    if unknown:
        raise KeyError(sorted(unknown)[0])
    return Sample(
        kind=kind,
        ns=clean_name(ns),
        name=clean_name(name) or "?",
        values=tuple(_clean_value(values.get(name)) for name in fields),
        node=clean_name(node),
        attrs=clean_attrs(attrs or {}),
    )


def clean_name(text: str, *, limit: int = MAX_NAME) -> str:
    """Return ``text`` without control, format and unassigned characters, stripped and cut.

    The cut is by characters; undecodable bytes of file names (surrogates) become "?".
    """
    if text.isascii() and text.isprintable():
        return text[:limit].strip()
    head = text[: limit * 4]
    clean = (
        "?"
        if "\ud800" <= char <= "\udfff"
        else ""
        if unicodedata.category(char) in _UNSAFE_CATEGORIES
        else char
        for char in head
    )
    return "".join(clean).strip()[:limit].strip()


def clean_attrs(attrs: Mapping[str, str]) -> dict[str, str]:
    """Return at most :data:`MAX_ATTRS` cleaned attributes that have a value."""
    cleaned = {}
    for key, value in attrs.items():
        short_key = clean_name(key, limit=MAX_ATTR_KEY)
        short_value = clean_name(value, limit=MAX_ATTR_VALUE)
        if short_key and short_value:
            cleaned[short_key] = short_value
        if len(cleaned) == MAX_ATTRS:
            break
    return cleaned


def _clean_value(value: float | None) -> int | None:
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return min(round(value), MAX_VALUE)
