"""Charts under the pointer, lists while they are fetched, ranges over days: in a real Chromium."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import point_at, ready

pytestmark = pytest.mark.browser


@pytest.fixture
def node(site) -> str:
    return f"/clusters/{site.do('id', name='alpha')}/nodes/node-1/"


def test_in_a_gap_the_head_has_the_reason_and_beside_it_the_value(site, tab, node):
    end = int(time.time()) // 60 * 60
    page = tab.open(f"{node}?start={end - 5400}&end={end}")
    plot = ready(page)
    covered = page.locator("[data-covered]").first
    expect(covered).to_have_text(re.compile(r"\d+ of \d+ minutes"))
    has, due = (int(part) for part in re.findall(r"\d+", covered.inner_text()))
    expect(page.locator(".cov-head b")).to_have_text(f"{100 * has // due} %")
    gap = plot.evaluate("plot => [plot.layout.shapes[0].x0, plot.layout.shapes[0].x1]")
    values = page.locator("[data-values]").first
    for at in (gap[0] + 1, sum(gap) / 2, gap[1] - 1):
        point_at(page, plot, at)
        expect(values).to_have_text("No data: nothing was recorded at the source (lost)")
    for at in (gap[0] - 1, gap[1] + 60):
        point_at(page, plot, at)
        expect(values).to_have_text(re.compile(r"^CPU [\d.,]+ (m|cores) .* \u2013 [\d.,]+"))
        expect(values).not_to_contain_text("No data")


def test_one_cross_hair_stands_over_all_charts_and_no_box_covers_them(site, tab, node):
    page = tab.open(f"{node}?range=1h")
    plot = ready(page)
    expect(page.locator(".plot[data-state=ready]:visible")).to_have_count(6)
    point_at(page, plot, time.time() - 1200)
    expect(page.locator("[data-cursor]:not([hidden])")).to_have_count(6)
    times = page.locator("[data-covered]:visible").all_inner_texts()
    assert len(set(times)) == 1
    assert page.locator("[data-values]:visible:has(b)").count() == 6
    assert page.locator(".hoverlayer > *").count() == 0
    page.mouse.move(5, 5)
    expect(page.locator("[data-cursor]:not([hidden])")).to_have_count(0)
    expect(page.locator("[data-covered]").first).to_have_text(re.compile("minutes$"))


def test_the_arrow_keys_move_the_cross_hair_of_a_focused_chart(site, tab, node):
    page = tab.open(f"{node}?range=1h")
    plot = ready(page)
    expect(page.locator(".plot[data-state=ready]:visible")).to_have_count(6)
    plot.focus()
    expect(page.locator("[data-cursor]:not([hidden])")).to_have_count(0)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-cursor]:not([hidden])")).to_have_count(6)
    assert page.locator("[data-values]:visible:has(b)").count() == 6
    covered = page.locator("[data-covered]").first
    newest = covered.inner_text()
    page.keyboard.press("ArrowLeft")
    expect(covered).not_to_have_text(newest)
    expect(plot).to_have_attribute(
        "aria-valuetext", re.compile(rf"^{re.escape(covered.inner_text())}: CPU ")
    )
    page.mouse.move(5, 5)
    expect(page.locator("[data-cursor]:not([hidden])")).to_have_count(6)
    page.keyboard.press("End")
    expect(covered).to_have_text(newest)
    page.keyboard.press("Escape")
    expect(page.locator("[data-cursor]:not([hidden])")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    expect(page.locator("[data-cursor]:not([hidden])")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.get_by_text("Move the cross-hair")).to_be_visible()


def test_large_and_mixed_numbers_have_three_digits_and_no_exponent(site, tab):
    page = tab.open("/")
    written = page.evaluate(
        """async () => {
          const { amount } = await import("/static/js/numbers.js");
          return [["count", 3932160], ["count", 12345678901], ["count", 44], ["count", 393216],
            ["millicores", 4794], ["millicores", 147], ["millicores", 20000],
            ["bytes", 5143000000], ["bytes/s", 1e7], ["us", 23456000], ["load x1000", 42]]
            .map(([unit, value]) => amount(unit, value));
        }"""
    )
    assert written == [
        "3.93 M", "12.3 G", "44", "393,216", "4.79 cores", "147 m", "20.0 cores", "4.79 GiB",
        "10.0 MB/s", "23,456 ms", "0.042",
    ]  # fmt: skip


def test_no_tick_of_an_axis_is_an_exponent(site, tab, node):
    def enlarge(route):
        answer = route.fetch()
        content = answer.json()
        for series in content["series"]:
            for name in ("mean", "min", "max"):
                series[name] = [v if v is None else v * 123_456 for v in series[name]]
        route.fulfill(response=answer, json=content)

    tab.page.route("**/chart/load.json*", enlarge)
    page = tab.open(f"{node}?range=1h")
    chart = page.locator("figure.chart", has_text="Load")
    expect(chart.locator(".plot")).to_have_attribute("data-state", "ready")
    ticks = chart.locator(".ytick text").all_text_contents()
    assert [text for text in ticks if re.fullmatch(r"[\d,.]+", text) is None] == []


def test_extremes_that_are_not_known_are_left_out_and_not_called_zero(site, tab, node):
    def forget(route):
        answer = route.fetch()
        content = answer.json()
        for series in content["series"]:
            series["min"] = series["max"] = [None] * len(series["mean"])
        route.fulfill(response=answer, json=content)

    tab.page.route("**/chart/load.json*", forget)
    page = tab.open(f"{node}?range=1h")
    chart = page.locator("figure.chart", has_text="Load")
    expect(chart.locator(".plot")).to_have_attribute("data-state", "ready")
    point_at(page, ready(page), time.time() - 1200)
    expect(chart.locator("[data-values]")).to_have_text(re.compile(r"^load [\d.]+$"))


def test_plots_of_a_row_begin_at_one_height_and_the_last_row_has_no_hole(site, tab, node):
    page = tab.open(f"{node.partition('nodes/')[0]}?range=1h&compare=day")
    ready(page)
    cards = page.locator("figure.chart").evaluate_all(
        "all => all.map(e => [e, e.querySelector('.plot')].map(b => b.getBoundingClientRect()))"
        ".map(([c, p]) => ({top: c.top, right: c.right, plot: p.top}))"
    )
    rows = {}
    for card in cards:
        rows.setdefault(round(card["top"]), []).append(card)
    assert sorted(len(row) for row in rows.values()) == [2, 3]
    for row in rows.values():
        assert len({round(card["plot"]) for card in row}) == 1
    assert len({round(row[-1]["right"]) for row in rows.values()}) == 1


def test_a_data_table_scrolls_inside_its_card_and_stretches_no_other(site, tab, node):
    page = tab.open(f"{node}?range=1h&compare=day")
    ready(page)
    charts = page.locator("figure.chart")
    network, beside = charts.filter(has_text="Network"), charts.filter(has_text="Load")
    before = beside.bounding_box()["height"]
    network.get_by_text("Data table").click()
    expect(network.locator("table")).to_be_visible()
    card, table = network.bounding_box(), network.locator(".data-table").bounding_box()
    assert table["x"] + table["width"] <= card["x"] + card["width"]
    assert beside.bounding_box()["height"] == before
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


@pytest.mark.parametrize("width", [390, 1440])
def test_a_page_of_charts_hardly_shifts_while_it_loads(site, new_tab, node, width):
    tab = new_tab(viewport={"width": width, "height": 900}, timezone_id="America/New_York")
    tab.page.add_init_script(
        "window.shift = 0; new PerformanceObserver(list => list.getEntries().forEach(entry => {"
        " if (!entry.hadRecentInput) window.shift += entry.value; }))"
        ".observe({type: 'layout-shift', buffered: true});"
    )
    page = tab.open(f"{node}?range=1h")
    ready(page)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.shift") < 0.1


def test_the_tabs_of_a_cluster_stay_where_they_are(site, tab, node):
    cluster = node.partition("nodes/")[0]
    for width in (1024, 1440):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tops = set()
        for name in ("overview", "nodes", "data", "tunnel", "settings"):
            page = tab.open(f"{cluster}?tab={name}")
            tops.add(page.locator("#tabs").bounding_box()["y"])
        assert len(tops) == 1


def test_the_header_and_the_page_have_one_width_on_a_wall_screen(site, new_tab, node):
    page = new_tab(viewport={"width": 3840, "height": 2160}).open(f"{node}?range=1h")
    left = page.locator(".brand").bounding_box()["x"]
    assert page.locator(".crumb").bounding_box()["x"] == left
    cards = page.locator("figure.chart").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).map(b => b.right)"
    )
    assert 3840 - max(cards) == left


def test_a_cluster_whose_source_has_the_same_minutes_offers_no_raw_values(site, tab, node):
    page = tab.open(f"{node}?range=1h&raw=1")
    ready(page)
    expect(page.get_by_role("link", name=re.compile("Raw"))).to_have_count(0)
    expect(page.locator("[data-raw-note]")).to_have_count(0)


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
