"""The names that every store can store."""

from __future__ import annotations

from metrics.series.rows import SeriesKey

MAX_NAME_LENGTH = 1_000


def is_storable(key: SeriesKey) -> bool:
    """Return whether the names can be stored: not too long, and no lone surrogates."""
    if len(key.ns) > MAX_NAME_LENGTH or len(key.name) > MAX_NAME_LENGTH:
        return False
    try:
        (key.ns + key.name).encode()
    except UnicodeEncodeError:
        return False
    return True
