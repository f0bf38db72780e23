"""Amounts, times, states and small server-rendered pictures in templates.

Everything that is put into HTML goes through ``format_html``; the pictures hold numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from clusters.health import Finding, Health
from clusters.selectors import ClusterOverview
from metrics.query import SeriesNow
from opscenter.core.ages import age_seconds
from opscenter.pages import format as fmt
from opscenter.pages.lost_node import LostNode
from opscenter.pages.pod_words import PodWords
from opscenter.pages.reasons import known_nodes, linked
from opscenter.pages.times import text_with_times, time_element

register = template.Library()

register.filter("cores", fmt.cores)
register.filter("size", fmt.size)
register.filter("rate", fmt.rate)
register.filter("number", fmt.count)
register.filter("percent", fmt.percent)
register.filter("small_percent", fmt.small_percent)
register.filter("duration", fmt.duration)
register.filter("days", fmt.days)
register.filter("skew", fmt.skew)
register.filter("milliseconds", fmt.milliseconds)
register.filter("bucket", fmt.bucket)
register.filter("plain", fmt.plain)
register.filter("glyph", fmt.glyph)
register.filter("word", fmt.word)


@register.filter
def cpu_share_of(pod: SeriesNow, node: SeriesNow | None) -> float | None:
    """Return which part of a node's CPU a pod uses, 0..1; None if either is not known."""
    return share(pod.values["cpu_mc"], node.values["cpu_cap_mc"] if node else None)


@register.filter
def memory_share_of(pod: SeriesNow, node: SeriesNow | None) -> float | None:
    """Return which part of a node's memory a pod uses, 0..1; None if either is not known."""
    return share(pod.values["mem_ws"], node.values["mem_cap"] if node else None)


@register.filter
def share(part: float | None, whole: float | None) -> float | None:
    """Return ``part`` of ``whole`` as a ratio; None if either is not known."""
    return None if part is None or not whole else part / whole


@register.filter
def subtract(whole: int, part: int) -> int:
    """Return ``whole`` minus ``part``."""
    return whole - part


@register.filter
def amount(value: float | None, unit: str) -> str:
    """Return a value with its unit, one of the catalogue's."""
    return fmt.by_unit(unit, value)


@register.filter
def barkind(field: str) -> str:
    """Return the colour class of a field's bar."""
    kinds = {"mem_ws": "mem", "mem_rss": "mem", "mem_ratio": "mem", "fs_used": "disk",
             "net_rx_bps": "net", "net_tx_bps": "net"}  # fmt: skip
    return kinds.get(field, "cpu")


@register.filter
def counted(count: int, words: PodWords) -> str:
    """Return how many of a cluster's pods, by the word for them: "1 pod", "44 process groups"."""
    return f"{fmt.count(count)} {words.one if count == 1 else words.many}"


@register.filter
def value_of(thing: object, name: str) -> Any:
    """Return an attribute of an object, e.g. a number of a cluster."""
    return getattr(thing, name)


@register.filter
def item(mapping: Mapping[Any, Any], key: object) -> Any:
    """Return the value of a key in a mapping; None if there is none."""
    return mapping.get(key)


@register.filter
def when(value: datetime | float | str | None) -> SafeString:
    """Return a time as ``<time>``, which the page's script makes local; of a text, each in it."""
    return text_with_times(value) if isinstance(value, str) else time_element(value)


@register.filter
def finding_of_node(overview: ClusterOverview, name: str) -> Finding | None:
    """Return what health found of a node's readiness; None if it is ready, or not known here."""
    return overview.finding(f"node:{name}")


@register.filter
def finding(overview: ClusterOverview, key: str) -> Finding | None:
    """Return what health found under a key, such as ``conflict``; None if nothing."""
    return overview.finding(key)


@register.simple_tag
def since(found: Health | Finding | LostNode) -> SafeString:
    """Return "since T", or "since at least T" where it may have begun earlier; "" if not known."""
    if found.since is None:
        return SafeString("")
    return format_html("since {}{}", "at least " if found.at_least else "", when(found.since))


@register.simple_tag
def span(start: int, end: int) -> SafeString:
    """Return a span of Unix seconds as text: in UTC, which the page's script makes local."""
    first, last = (datetime.fromtimestamp(at, UTC) for at in (start, end))
    text = f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    return format_html(
        '<span data-span data-start="{}" data-end="{}" title="{}">{}</span>', start, end, text, text
    )


@register.simple_tag(takes_context=True)
def age(context: template.Context, value: datetime | float | None, stale_s: int = 0) -> SafeString:
    """Return how old a time is now, by the template's ``now``; as :func:`age_at`."""
    return age_at(context["now"], value, stale_s)


def age_at(now: datetime, value: datetime | float | None, stale_s: int = 0) -> SafeString:
    """Return how old a time is as a ``<time>`` that ticks; marked as old beyond ``stale_s``.

    Of a time in the future it is not known, which is never fresh.
    """
    at = fmt.moment(value)
    if at is None:
        return mark_safe(fmt.UNKNOWN)  # noqa: S308 - a constant
    at = at.astimezone(UTC)
    seconds = age_seconds(at, now)
    is_old = bool(stale_s) and (seconds is None or seconds > stale_s)
    return format_html(
        '<time datetime="{}" data-age{}{} title="{}">{}</time>',
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        format_html(' data-stale="{}"', stale_s) if stale_s else "",
        format_html(' class="{}"', "old") if is_old else "",
        at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "in the future" if seconds is None else fmt.duration(seconds),
    )


@register.simple_tag
def state(name: str, text: str = "") -> SafeString:
    """Return a health state as colour, glyph and word."""
    return format_html(
        '<span class="st {}"><i aria-hidden="true">{}</i>{}</span>',
        name,
        fmt.glyph(name),
        text or fmt.word(name),
    )


@register.simple_tag
def state_link(name: str, text: str = "", about: str = "", *, quiet: bool = False) -> SafeString:
    """Return a state as :func:`state` does, leading to the page that explains it.

    Args:
        name: the state, which decides colour and glyph.
        text: the word to show; "" for the state's own.
        about: the part of the page; "" for the state's own.
        quiet: leave it out of the order of the tab key, where a list has a link in each row.
    """
    return format_html(
        '<a class="st {}" href="{}#{}" title="What this means"{}>'
        '<i aria-hidden="true">{}</i>{}</a>',
        name,
        reverse("help_states"),
        about or name,
        mark_safe(' tabindex="-1"') if quiet else "",
        fmt.glyph(name),
        text or fmt.word(name),
    )


@register.simple_tag
def node_links(overview: ClusterOverview, text: str, query: str = "") -> SafeString:
    """Return a text about a cluster in which the names of its nodes are links."""
    return linked(text, overview.id, known_nodes(overview), query)


@register.simple_tag
def bar(ratio: float | None, kind: str = "", high: float = 0.9) -> SafeString:
    """Return a bar of a ratio 0..1; hatched if it is not known. The number is beside it."""
    if ratio is None:
        return format_html('<span class="bar none {}"></span>', kind)
    width = min(max(ratio, 0.0), 1.0) * 100
    return _bar(kind, "high" if ratio >= high else "", f"{width:.1f}")


@lru_cache(maxsize=4096)  # pages have hundreds of bars, and there are a thousand widths
def _bar(kind: str, tone: str, percent: str) -> SafeString:
    return format_html(
        '<span class="bar {} {}"><s style="width:{}%"></s></span>', kind, tone, percent
    )


@register.simple_tag
def sparkline(permille: Sequence[int | None], label: str) -> SafeString:
    """Return an SVG line of at most 60 ratios in permille; missing minutes break the line.

    The base line is zero and as long as the hour. ``label`` says what it is; the text for screen
    readers adds now, lowest and highest.
    """
    width, height = 120, 26
    step = width / 59
    offset = 60 - len(permille)
    parts, pen = [], "M"
    for index, value in enumerate(permille):
        if value is None:
            pen = "M"
            continue
        x, y = (index + offset) * step, height - 2 - min(max(value, 0), 1000) / 1000 * (height - 4)
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
        if index + 1 == len(permille) or permille[index + 1] is None:
            parts.append("h.01")  # so that a lone minute is visible
    return format_html(
        '<svg class="sp" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" '
        'aria-label="{2}"><title>{2}</title><line x2="{0}" y1="{4}" y2="{4}"/>'
        '<path d="{3}" stroke-linecap="round"/></svg>',
        width,
        height,
        f"{label}{_in_words(permille)}",
        "".join(parts),
        height - 1.5,
    )


def _in_words(permille: Sequence[int | None]) -> str:
    """Return ": now 31 %, 24 % to 40 % in 42 of 60 minutes" of ratios in permille."""
    known = [value / 1000 for value in permille if value is not None]
    if not known:
        return ": not measured"
    low, high = fmt.percent(min(known)), fmt.percent(max(known))
    last = permille[-1]
    now = f"now {fmt.percent(last / 1000)}, " if last is not None else ""
    return f": {now}{low} to {high} in {len(known)} of 60 minutes"


@register.simple_tag
def heat(cells: Sequence[float | None], label: str, kind: str = "") -> SafeString:
    """Return a strip of ratios 0..1, dark is high; a cell without data is pale and flat."""
    known = [value for value in cells if value is not None]
    if known:
        label += f": {fmt.percent(min(known))} to {fmt.percent(max(known))}"
    else:
        label += ": not measured"
    width = 6
    rects = []
    for index, value in enumerate(cells):
        x = index * (width + 1)
        if value is None:
            rects.append(f'<rect class="no" x="{x}" y="7" width="{width}" height="4"/>')
            continue
        opacity = 0.12 + 0.88 * min(max(value, 0.0), 1.0)
        rects.append(f'<rect x="{x}" width="{width}" height="18" opacity="{opacity:.2f}"/>')
    total = max(1, len(cells) * (width + 1) - 1)
    return format_html(
        '<svg class="heat {}" width="100%" height="18" viewBox="0 0 {} 18" '
        'preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        kind,
        total,
        label,
        mark_safe("".join(rects)),  # noqa: S308 - numbers only
    )
