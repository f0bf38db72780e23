"""Charts under the pointer, lists while they are fetched, ranges over days: in a real Chromium."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
LABELS = ".hoverlayer .legend text"


@pytest.fixture
def node(site) -> str:
    return f"/clusters/{site.do('id', name='alpha')}/nodes/node-1/"


def point_at(page, plot, unix: float) -> None:
    """Move the pointer over a moment of a chart."""
    box = plot.bounding_box()
    offset = plot.evaluate(
        "(plot, at) => plot._fullLayout.xaxis._offset + plot._fullLayout.xaxis.d2p(at)",
        unix * 1000,
    )
    page.mouse.move(box["x"] + offset - 1, box["y"] + 60)
    page.mouse.move(box["x"] + offset, box["y"] + 60)


def test_in_a_gap_the_pointer_gets_the_reason_and_beside_it_the_value(site, new_tab, node):
    end = int(time.time()) // 60 * 60
    tab = new_tab(viewport={"width": 1440, "height": 900}, timezone_id="UTC")
    page = tab.open(f"{node}?start={end - 5400}&end={end}")
    plot = page.locator(".plot").first
    expect(plot).to_have_attribute("data-state", "ready")
    expect(page.locator("[data-covered]").first).to_have_text(re.compile(r"\d+ of 90 minutes"))
    gap = plot.evaluate("plot => [plot.layout.shapes[0].x0, plot.layout.shapes[0].x1]")
    point_at(page, plot, sum(gap) / 2000)
    shown = plot.locator(LABELS)
    expect(shown.filter(has_text="No data: nothing was recorded")).to_be_visible()
    expect(shown.filter(has_text="CPU")).to_have_count(0)
    point_at(page, plot, gap[1] / 1000 + 600)
    expect(
        shown.filter(has_text=re.compile(r"CPU : [\d,]+ m \([\d,]+ to [\d,]+\)"))
    ).to_be_visible()
    expect(shown.filter(has_text="No data")).to_have_count(0)


def test_extremes_that_are_not_known_are_left_out_and_not_called_zero(site, tab, node):
    def forget(route):
        answer = route.fetch()
        content = answer.json()
        for series in content["series"]:
            series["min"] = series["max"] = [None] * len(series["mean"])
        route.fulfill(response=answer, json=content)

    tab.page.route("**/chart/cpu.json*", forget)
    page = tab.open(f"{node}?range=1h")
    plot = page.locator(".plot").first
    expect(plot).to_have_attribute("data-state", "ready")
    point_at(page, plot, time.time() - 1200)
    expect(plot.locator(LABELS).filter(has_text=re.compile(r"CPU : [\d,]+ m$"))).to_be_visible()


def test_a_range_over_two_days_names_both_and_the_strip_says_when(site, new_tab, node):
    tab = new_tab(viewport={"width": 1440, "height": 900}, timezone_id="Asia/Kolkata")
    end = int(time.time()) // 60 * 60
    page = tab.open(f"{node}?start={end - 3 * 86_400}&end={end}")
    days = r"\d{4}-\d\d-\d\d \d\d:\d\d . \d{4}-\d\d-\d\d \d\d:\d\d"
    expect(page.locator("[data-range-menu] summary")).to_have_text(re.compile(days))
    expect(page.locator(".cov-head")).to_contain_text(re.compile(days))
    lost = page.locator(".cov .lost").first
    expect(lost).to_have_attribute("title", re.compile(r"\d\d:\d\d . .*nothing was recorded"))
    page = tab.open("/pods/?over=24h")
    expect(page.locator(".pager")).to_contain_text(re.compile(days))


def test_a_list_that_is_being_fetched_looks_so(site, tab):
    page = tab.open("/pods/")
    page.route("**/pods/?*over=90d*", lambda route: (time.sleep(1), route.continue_()))
    page.get_by_label("Over").select_option("90 days")
    expect(page.locator("#found")).to_have_class(re.compile("htmx-request"))
    expect(page).to_have_url(re.compile("over=90d"))
    expect(page.locator("#found")).not_to_have_class(re.compile("htmx-request"))


def test_the_newest_pods_are_saved_as_csv_as_they_are_filtered(site, tab):
    page = tab.open("/pods/?q=cart")
    with page.expect_download() as saved:
        page.get_by_role("link", name=re.compile("These pods as CSV")).click()
    lines = saved.value.path().read_text().splitlines()
    assert lines[0].startswith("rank,cluster,customer,namespace,name,node,as_of_utc,running,")
    assert {line.split(",")[4] for line in lines[1:]} == {"cart-1", "cart-2"}


def test_the_chosen_tab_is_visible_on_a_phone(site, new_tab, node):
    page = new_tab(viewport={"width": 360, "height": 740}).open(
        f"{node.partition('nodes/')[0]}?tab=settings"
    )
    chosen = page.locator(".tabs [aria-current]")
    expect(chosen).to_be_in_viewport(ratio=0.99)
