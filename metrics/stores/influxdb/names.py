"""Names in InfluxDB: tag values, bucket names, and the columns of a point.

Layout (why: ``docs/decisions/0011-influxdb-metric-store.md``)::

    measurement = kind; tags cluster, name, ns = the series; one bucket per tier and retention
    1m:       n (samples), cpu_mc, cpu_mc_l, cpu_mc_h    low and high only where they differ
    10m, 1h:  n (minutes), cpu_mc_n, cpu_mc_s, cpu_mc_l, cpu_mc_h

Every value is an integer. A point cannot lose a field, so a field that a better row lacks is set to
:data:`NOTHING`, which is not a possible value.
"""

from __future__ import annotations

import re
from functools import cache
from typing import get_args

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind
from metrics.series.windows import DAY

KINDS: tuple[Kind, ...] = get_args(Kind)
NOTHING = -(2**63)
FOREVER = 0

_ESCAPED = re.compile(r"(?:%[0-9A-F]{2})+")
_LINE_SPECIAL = re.compile(r"([,= ])")
_EMPTY = "%"  # a tag's value cannot be empty; "%" alone is nothing that tag() makes otherwise


def tag(text: str) -> str:
    """Return a name as the value of a tag: without control characters, backslashes or %.

    Characters that are special in line protocol (a line feed ends the line, a backslash before a
    comma escapes it) are written like ``%0A``. :func:`untag` undoes it exactly.
    """
    if not text:
        return _EMPTY
    if text.isprintable() and "%" not in text and "\\" not in text:
        return text
    return "".join(
        c if c.isprintable() and c not in "%\\" else "".join(f"%{b:02X}" for b in c.encode())
        for c in text
    )


def untag(value: str) -> str:
    """Return the name that a tag's value stands for."""
    if "%" not in value:
        return value
    if value == _EMPTY:
        return ""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), value)


def escaped(value: str) -> str:
    """Return a tag's value as it is written in line protocol."""
    return _LINE_SPECIAL.sub(r"\\\1", value)


def bucket_name(prefix: str, tier: str, kept_seconds: int) -> str:
    """Return the name of the bucket that keeps a tier for ``kept_seconds`` (0: forever)."""
    if kept_seconds == FOREVER:
        return f"{prefix}_{tier}_forever"
    days, rest = divmod(kept_seconds, DAY)
    return f"{prefix}_{tier}_{kept_seconds}s" if rest else f"{prefix}_{tier}_{days}d"


def shard_seconds(kept_seconds: int) -> int:
    """Return the width of a bucket's shard groups in seconds; they are deleted as a whole.

    InfluxDB's default for the retention, but at least a day: hourly shards of a short bucket would
    each contain all series again.
    """
    long = kept_seconds == FOREVER or kept_seconds >= 180 * DAY
    return 7 * DAY if long else DAY


@cache
def columns(kind: Kind, tier: str) -> tuple[str, ...]:
    """Return the fields of a point in the order of a row's values; the first is n."""
    ends = ("", "_l", "_h") if tier == "1m" else ("_n", "_s", "_l", "_h")
    return ("n", *(f"{name}{end}" for name in FIELD_NAMES[kind] for end in ends))


@cache
def column_indexes(kind: Kind, tier: str) -> dict[str, int]:
    """Return the index of each field in a row's values."""
    return {name: at for at, name in enumerate(columns(kind, tier))}


def field_columns(field: str, tier: str) -> tuple[str, ...]:
    """Return the fields of a point for one field of the catalogue."""
    ends = ("", "_l", "_h") if tier == "1m" else ("_n", "_s", "_l", "_h")
    return tuple(f"{field}{end}" for end in ends)


def is_tier(tier: str) -> bool:
    """Return whether there is such a tier."""
    return tier in TIERS
