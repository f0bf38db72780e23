"""Times as pages show them: ``<time>`` with UTC in it, which the page's script makes local."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from opscenter.pages import format as fmt

_IN_TEXT = re.compile(r"\b(\d{4}-\d\d-\d\d) (\d\d:\d\d)(:\d\d)? UTC\b")
_ISO = re.compile(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)Z")


def time_element(value: datetime | float | None) -> SafeString:
    """Return a time as ``<time>``, a dash if there is none."""
    at = fmt.moment(value)
    if at is None:
        return mark_safe(fmt.UNKNOWN)  # noqa: S308 - a constant
    at = at.astimezone(UTC)
    iso, text = at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return format_html('<time datetime="{}" data-time title="{}">{}</time>', iso, text, text)


def text_with_times(text: str) -> SafeString:
    """Return a text from anywhere, escaped, with each time in it as ``<time>``.

    A time is written as the server writes it, "2026-03-01 12:00 UTC" or in ISO 8601.
    """
    text = str(text)  # it may be lazy
    pieces: list[str] = []
    at = 0
    for found in sorted([*_IN_TEXT.finditer(text), *_ISO.finditer(text)], key=lambda m: m.start()):
        pieces += [text[at : found.start()], _element(found)]
        at = found.end()
    return format_html_join("", "{}", ((piece,) for piece in [*pieces, text[at:]]))


def _element(found: re.Match[str]) -> str:
    """Return what was found as ``<time>``; as it is where it is no time of any calendar."""
    day, minute, second = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{minute}{second or ':00'}+00:00")
    except ValueError:
        return found[0]
    iso = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return format_html(
        '<time datetime="{}" data-time title="{}">{}</time>', iso, found[0], found[0]
    )
