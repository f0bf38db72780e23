"""Text from outside: names, labels and messages that clusters and people send are hostile."""

from __future__ import annotations

from datetime import UTC, datetime


def one_line(text: str, limit: int) -> str:
    """Return text as one printable line of at most ``limit`` characters.

    Control, format and other unprintable characters (line breaks, escapes, bidirectional
    overrides, lone surrogates) become blanks, and runs of blanks become one.
    """
    clean = text[: 4 * limit]
    if not clean.isprintable():
        clean = "".join(char if char.isprintable() else " " for char in clean)
    return " ".join(clean.split())[:limit].rstrip()


def iso_utc(moment: float) -> str:
    """Return a moment in Unix seconds as ISO 8601 in UTC, for machines: 2026-03-01T12:00:00Z."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


def minute_utc(moment: float) -> str:
    """Return a moment in Unix seconds to the minute, for people: 2026-03-01 12:00 UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
