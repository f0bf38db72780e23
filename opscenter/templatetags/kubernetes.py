"""Kubernetes' nodes and pods in templates, by their attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from metrics.query import SeriesNow
from opscenter.core.ages import age_seconds
from opscenter.core.text import minute_utc
from opscenter.pages import kubernetes_words as words
from opscenter.pages.format import UNKNOWN
from opscenter.templatetags.ops import state

register = template.Library()

register.filter("workload", words.workload)
register.filter("roles", words.roles)
register.filter("status", words.status)
register.filter("status_state", words.status_state)


@register.filter
def facts(attrs: Mapping[str, str], without: str = "") -> list[words.Fact]:
    """Return the attributes for people, but those named in ``without``, separated by commas."""
    return words.facts(attrs, without=without.split(","))


@register.filter
def any_status(pods: Iterable[SeriesNow]) -> bool:
    """Return whether any of these says a status; services of a plain host do not."""
    return any(words.status(pod.attrs) for pod in pods)


@register.simple_tag
def pod_status(pod: SeriesNow, *, reporting: bool) -> SafeString | str:
    """Return a pod's status with colour and glyph; plain if it is calm or not of now.

    ``reporting`` says whether the cluster's newest minute is of now.
    """
    text, colour = words.status(pod.attrs), words.status_state(pod.attrs)
    if not text:
        return UNKNOWN
    if not pod.present or not reporting:
        return format_html('<span class="muted">was {}</span>', text)
    return state(colour, text) if colour else text


@register.simple_tag(takes_context=True)
def pod_status_by_age(context: template.Context, pod: SeriesNow, stale_s: int) -> SafeString | str:
    """Return a pod's status as :func:`pod_status` does, of now if it is not older than that."""
    now: datetime = context["now"]
    age = age_seconds(pod.as_of, now.timestamp())
    return pod_status(pod, reporting=age is not None and age <= stale_s)


@register.simple_tag
def last_termination(attrs: Mapping[str, str]) -> SafeString | str:
    """Return how a container last ended, small; "" if none has."""
    text, at = words.last_termination(attrs)
    if not text:
        return ""
    if at is None:
        return format_html("<small>last: {}</small>", text)
    title = minute_utc(at.timestamp())
    return format_html('<small title="{}" data-local-title>last: {}</small>', title, text)


@register.filter
def node_marks(node: SeriesNow) -> SafeString:
    """Return the marks of a node: that it is cordoned, and under which pressure."""
    pairs = (
        ("calm" if mark == "cordoned" else "degraded", mark) for mark in words.marks(node.attrs)
    )
    return format_html_join("", "<br>{}", ((state(colour, mark),) for colour, mark in pairs))
