"""Times on pages: one element for all, also inside texts that the server wrote."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template

from clusters.models import ClusterStatus
from metrics.series.windows import STREAM, Window
from metrics.stores import get_store
from metrics.stores.writer import Batch
from opscenter.pages.times import text_with_times, time_element
from tests.centre import ROOT
from tests.factories import ClusterFactory, healthy

MOMENT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ELEMENT = '<time datetime="2026-03-01T12:00:00Z" data-time title="{0}">{0}</time>'
AS_TEXT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?( UTC|Z)")


def test_a_moment_in_any_form_is_one_element():
    told = ELEMENT.format("2026-03-01 12:00:00 UTC")
    for value in (MOMENT, MOMENT.timestamp(), MOMENT.astimezone()):
        assert time_element(value) == told
    assert time_element(None) == "\N{EN DASH}"


@pytest.mark.parametrize("written", ["2026-03-01 12:00 UTC", "2026-03-01 12:00:00 UTC",
                                     "2026-03-01T12:00:00Z"])  # fmt: skip
def test_each_time_in_a_text_is_an_element_and_the_rest_is_escaped(written):
    text = f"<b>lost since {written}, at {written}"
    told = ELEMENT.format(written)
    assert text_with_times(text) == f"&lt;b&gt;lost since {told}, at {told}"


@pytest.mark.parametrize("text", ["", "no time", "2026-13-41 99:99 UTC", "2026-03-01 12:00", "<"])
def test_what_is_no_time_stays_as_it_is(text):
    assert "<time" not in text_with_times(text)


def test_the_filter_takes_moments_and_texts():
    shown = Template("{% load ops %}{{ a|when }}|{{ b|when }}|{{ c|when }}").render(
        Context({"a": MOMENT, "b": "until 2026-03-01 12:00 UTC", "c": None})
    )
    assert shown.count("<time") == 2
    assert shown.endswith("|\N{EN DASH}")


def in_plain_text(html: str) -> list[str]:
    """Return the times that a page shows outside of what its script makes local."""
    html = re.sub(
        r"<time [^>]*>[^<]*</time>|<span data-(?:span|printed)[^>]*>[^<]*</span>", "", html
    )
    html = re.sub(r"<[^>]*data-(?:span-title|local-title|problem)[^>]*>", "", html)
    return [found[0] for found in AS_TEXT.finditer(re.sub(r"<(script|style).*?</\1>", "", html))]


@pytest.mark.django_db
def test_no_page_of_a_cluster_shows_a_time_as_plain_text(client, operator):
    """A tunnel that was lost, a window with times in its detail, a hold, a source that failed."""
    client.force_login(operator)
    now = datetime.now(UTC)
    cluster = ClusterFactory(name="alpha", **healthy(now - timedelta(hours=1), tunnel_up=False))
    ClusterStatus.objects.update(
        tunnel_reason="the source keeps nothing from before 2026-03-01 12:00 UTC",
        pull_error_code="tunnel_down", pull_error="lost since 2026-03-01 12:00 UTC",
    )  # fmt: skip
    end = int(now.timestamp()) // 600 * 600 - 600
    window = Window(
        end - 600, end, "lost", 10, 0, 1, "spool_expired",
        "the source keeps nothing from before 2026-03-01 12:00 UTC", None,
    )  # fmt: skip
    get_store().write(cluster.pk, STREAM, Batch([], [], [window], end, end))
    for path in (f"/clusters/{cluster.pk}/?tab={tab}" for tab in (
        "overview", "nodes", "pods", "history", "data", "tunnel", "settings",
    )):  # fmt: skip
        assert in_plain_text(client.get(path).content.decode()) == [], path
    for path in ("/", "/?view=table", "/pods/", "/history/", "/retention/", "/help/states/"):
        assert in_plain_text(client.get(path).content.decode()) == [], path


def test_no_template_formats_a_time_by_itself():
    for path in sorted(ROOT.glob("templates/**/*.html")):
        text = path.read_text().replace("""<span data-printed>{{ now|date:"Y-m-d H:i" }} UTC""", "")
        assert not re.search(r"\|date:(?!.U.)|\|time:|{% now", text), path
