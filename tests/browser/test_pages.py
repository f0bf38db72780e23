"""The pages in a real Chromium: live, by keyboard, on a phone, in the dark, for everybody."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import sign_in

pytestmark = pytest.mark.browser
PHONE = {"width": 360, "height": 740}


@pytest.fixture
def alpha(site) -> str:
    return f"/clusters/{site.do('id', name='alpha')}/"


def test_somebody_signs_in_and_lands_where_they_wanted(site, browser):
    page = browser.new_context().new_page()
    page.goto(f"{site.url}/pods/?q=cart")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("sign up", exact=False)).to_have_count(0)
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("not correct", exact=False)).to_be_visible()
    page.context.close()
    page = browser.new_context().new_page()
    sign_in(page, site, "viewer")
    expect(page.get_by_text("does not have access to any cluster")).to_be_visible()
    page.context.close()


def test_a_row_changes_in_place_and_a_move_waits_to_be_asked_for(site, tab):
    page = tab.open("/")
    expect(page.locator(".live")).to_have_text("live")
    page.evaluate("window.same = true")
    gamma = site.do("id", name="gamma")
    before = page.locator("li.tile").evaluate_all("all => all.map(e => e.id)")
    site.do("break", name="gamma")
    tile = page.locator(f"#tile-{gamma}")
    expect(tile).to_have_class(re.compile("critical"))
    assert page.locator("li.tile").evaluate_all("all => all.map(e => e.id)") == before
    expect(page.locator("#chip-critical b")).to_have_text("2")
    button = page.locator("#fleet-waiting")
    expect(button).to_have_text("Show 1 change")
    button.click()
    expect(page.locator(f"#need-{gamma}")).to_be_visible()
    expect(button).to_be_hidden()
    assert page.evaluate("window.same") is True


def test_a_cluster_that_goes_silent_turns_unknown_on_its_own_page(site, tab):
    beta = site.do("id", name="beta")
    page = tab.open(f"/clusters/{beta}/")
    expect(page.locator("#state")).to_contain_text("ok")
    expect(page.locator(".live")).to_have_text("live")
    site.do("silence", name="beta")
    expect(page.locator("#state")).to_contain_text("unknown")
    expect(page.locator("#why")).to_contain_text("was ok")
    expect(page.locator("#why")).to_contain_text("cut by the test")


def test_filters_live_in_the_address_and_the_back_button_works(site, tab):
    page = tab.open("/")
    page.locator("#chip-unknown").click()
    expect(page).to_have_url(re.compile(r"\?state=unknown$"))
    expect(page.locator("li.tile", has_text="alpha")).to_have_count(0)
    page.get_by_label("Search", exact=True).fill("qui")
    expect(page).to_have_url(re.compile(r"q=qui"))
    expect(page).to_have_url(re.compile(r"state=unknown"))
    expect(page.locator("li.tile")).to_have_count(1)
    page.evaluate("history.back()")
    expect(page).to_have_url(re.compile(r"\?state=unknown$"))
    expect(page.get_by_label("Search", exact=True)).to_have_value("")
    page.evaluate("history.back()")
    expect(page).to_have_url(f"{site.url}/")
    expect(page.locator("li.tile", has_text="alpha")).to_have_count(1)


def test_keys_search_move_open_and_help(site, tab):
    page = tab.open("/")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("j")  # typing is typing
    expect(page.locator("#q")).to_have_value("j")
    page.locator("#q").fill("")
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator("[data-row] th a").first
    expect(first).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    first.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/clusters/[0-9a-f-]{36}/"))
    page.keyboard.press("t")
    expect(page.locator("[data-range-menu]")).to_have_attribute("open", "")
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("g")
    page.keyboard.press("p")
    expect(page).to_have_url(f"{site.url}/pods/")
    page.keyboard.press("g")
    page.keyboard.press("f")
    expect(page).to_have_url(f"{site.url}/")


def test_a_cluster_is_added_and_the_page_says_each_step(site, tab):
    tab.expected = ("422",)
    page = tab.open("/clusters/add/")
    page.get_by_label("Name").fill("alpha")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("already exists")).to_be_visible()
    page.get_by_label("Name").fill("newcomer")
    page.get_by_label("Labels").fill("region=eu")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Connect newcomer")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/clusters/[0-9a-f-]{36}/join/$"))
    token = re.search(r"ocj_[\w-]+", page.locator("#cmd-linux").inner_text()).group()
    steps = page.locator("#steps ol > li")
    expect(steps.nth(0)).to_have_class("now")
    expect(page.locator(".live")).to_have_text("live")
    site.do("enrol", token=token)
    expect(steps.nth(1)).to_have_class("done")
    expect(page.locator("#cmd-linux")).to_contain_text(token)
    expect(steps.nth(2)).to_have_class("now")
    site.do("connect", name="newcomer")
    expect(steps.nth(2)).to_have_class("done")
    site.do("data", name="newcomer")
    expect(page.get_by_role("link", name="Open newcomer")).to_be_visible()
    page.reload()
    expect(page.locator("main")).not_to_contain_text(token)


def test_charts_draw_zoom_by_dragging_and_show_their_table(site, tab, alpha):
    page = tab.open(f"{alpha}nodes/node-1/?range=6h")
    plot = page.locator(".plot").first
    expect(plot).to_have_attribute("data-state", "ready")
    expect(plot.locator(".scatterlayer path.js-line")).not_to_have_count(0)
    expect(plot.locator(".shapelayer path")).not_to_have_count(0)
    page.locator("figure").first.get_by_text("Data table").click()
    table = page.locator("figure").first.locator("table")
    expect(table).to_contain_text("nothing was recorded at the source")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + 90, steps=8)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"start=\d+&end=\d+"))
    expect(page.locator(".plot").first).to_have_attribute("data-state", "ready")
    page.evaluate("history.back()")
    expect(page).to_have_url(re.compile(r"range=6h"))


def test_plotly_stays_away_from_pages_without_charts(site, tab):
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url))
    for path in ("/", "/pods/"):
        tab.open(path).wait_for_load_state("networkidle")
    assert not [url for url in asked if "plotly" in url]


def test_rows_are_cards_on_a_phone(site, new_tab):
    page = new_tab(viewport=PHONE).open("/?view=table")
    row = page.locator("table.cards tbody tr").first
    assert row.evaluate("e => getComputedStyle(e).display") == "grid"
    assert page.locator("table.cards").first.get_attribute("role") == "table"
    expect(row).to_be_visible()


def test_dark_follows_the_preference(site, new_tab):
    def brightness(scheme: str) -> int:
        page = new_tab(color_scheme=scheme).open("/")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    assert brightness("light") > 600
    assert brightness("dark") < 150


def test_times_are_local_with_utc_on_hover(site, new_tab, alpha):
    page = new_tab(timezone_id="Asia/Kolkata").open(f"{alpha}?tab=tunnel")
    cell = page.locator("#sessions time").first
    utc = re.search(r"(\d\d):(\d\d):\d\d UTC", cell.get_attribute("title"))
    local = re.search(r"(\d\d):(\d\d)", cell.inner_text())
    minutes = [int(m.group(1)) * 60 + int(m.group(2)) for m in (utc, local)]
    assert (minutes[1] - minutes[0]) % 1440 == 330


def test_a_lost_centre_is_shown_at_the_top_and_the_page_catches_up(site, tab):
    tab.expected = ("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "WebSocket", "502")
    page = tab.open("/")
    expect(page.locator(".live")).to_have_text("live")
    site.stop_web()
    banner = page.locator("#lost")
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("No connection to Ops Center")
    expect(banner).to_contain_text("old")
    site.do("add", name="meanwhile")
    site.web = site.start_web()
    # It may have come back by itself just before.
    page.locator("[data-lost-retry]").dispatch_event("click")
    expect(banner).to_be_hidden()
    expect(page.locator(".live")).to_have_text("live")
    expect(page.locator("tr", has_text="meanwhile")).to_be_visible()


def test_a_page_whose_sockets_are_blocked_polls(site, tab):
    tab.expected = ("WebSocket",)
    tab.page.add_init_script(
        "window.WebSocket = class extends WebSocket {"
        " constructor() { super(`ws://${location.host}/nowhere/`); } };"
    )
    page = tab.open("/")
    live = page.locator(".live")
    expect(live).to_have_text("every 45 s")
    expect(live).to_have_attribute("title", re.compile("WebSocket"))
    expect(page.locator("#lost")).to_be_hidden()


def test_an_update_carries_only_rows_that_the_page_has(site, tab):
    page = tab.open("/")
    expect(page.locator(".live")).to_have_text("live")
    beta = site.do("id", name="beta")
    page.evaluate("id => document.getElementById(`need-${id}`)?.remove()", beta)
    with page.expect_response(re.compile("updates")) as answer:
        site.do("data", name="beta")
    assert answer.value.ok
    expect(page.locator(f"#need-{beta}")).to_have_count(0)


def test_a_chart_without_numbers_says_why_and_has_no_axes(site, tab):
    page = tab.open(f"/clusters/{site.do('id', name='waiting')}/?range=1h")
    plot = page.locator(".plot").first
    expect(plot).to_have_attribute("data-state", "empty")
    expect(plot).to_have_attribute("data-message", re.compile("has not sent any"))
    expect(plot.locator("svg")).to_have_count(0)


def test_a_chart_that_was_empty_is_drawn_in_its_full_height(site, tab):
    site.do("add", name="newborn")
    page = tab.open(f"/clusters/{site.do('id', name='newborn')}/?range=1h")
    plot = page.locator(".plot").first
    expect(plot).to_have_attribute("data-state", "empty")
    expect(page.locator(".live")).to_have_text("live")
    site.do("measure", name="newborn")
    expect(plot).to_have_attribute("data-state", "ready")
    assert plot.locator("svg.main-svg").first.bounding_box()["height"] > 150


def test_a_range_is_compared_and_the_address_and_the_table_say_so(site, tab, alpha):
    site.do("measure_before", name="alpha")
    page = tab.open(f"{alpha}?range=1h")
    expect(page.locator("[data-change]")).to_have_count(0)
    page.get_by_text("Compare", exact=True).click()
    page.get_by_role("link", name="day before").click()
    expect(page).to_have_url(re.compile(r"range=1h&compare=day"))
    chart = page.locator("figure.chart").first
    expect(chart.locator("[data-change]")).to_have_text(
        re.compile(r"^day before: [^n]*(unchanged|%)")
    )
    expect(chart.locator(".plot")).to_have_attribute("data-state", "ready")
    dashes = "plot => plot.data.map(line => line.line?.dash).filter(dash => dash === '6px,4px')"
    assert len(chart.locator(".plot").evaluate(dashes)) == 1
    chart.get_by_text("Data table").click()
    expect(chart.get_by_role("columnheader", name="Day before")).to_be_visible()
    expect(chart.get_by_role("link", name="CSV")).to_have_attribute(
        "href", re.compile("compare=day")
    )
    page.get_by_role("link", name="6 h", exact=True).click()
    expect(page).to_have_url(re.compile(r"range=6h&compare=day"))
    page.get_by_text("vs day before").click()
    page.get_by_role("link", name="off").click()
    expect(page).to_have_url(re.compile(r"range=6h$"))


def test_the_largest_pods_of_a_range_are_chosen_by_the_form_and_kept_in_the_address(site, tab):
    page = tab.open("/pods/")
    by = page.locator("select[name=by]")
    expect(by).to_be_hidden()
    page.get_by_label("Over").select_option("6 hours")
    expect(page).to_have_url(re.compile(r"over=6h"))
    expect(page.get_by_label("Seen within")).to_be_hidden()
    expect(page.locator("table.tops tbody tr").first).to_contain_text("m")
    by.select_option("highest")
    expect(page).to_have_url(re.compile(r"by=max"))
    expect(page.get_by_role("columnheader", name="CPU, highest")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="The largest pods as CSV").click()
    text = saved.value.path().read_text()
    assert text.startswith("rank,cluster,")
    assert ",'=cmd|" in text
    page.get_by_label("Over").select_option("last minute")
    expect(page.get_by_role("columnheader", name="Data age")).to_be_visible()


def test_raw_values_are_drawn_over_the_stored_ones_or_the_reason_is_shown_once(site, tab):
    node = f"/clusters/{site.do('id', name='sourced')}/nodes/node-1/"
    page = tab.open(f"{node}?range=6h")
    expect(page.get_by_role("link", name="Raw from the cluster")).to_have_count(0)
    page = tab.open(f"{node}?range=1h")
    page.get_by_role("link", name="Raw from the cluster").click()
    expect(page).to_have_url(re.compile(r"raw=1"))
    note = page.locator("[data-raw-note]")
    expect(note).to_have_count(1)
    expect(note).to_have_text(re.compile("^Not from the cluster: .*sourced"))  # no hub runs here
    now = int(time.time())
    line = {"name": "CPU", "role": "cpu", "step": 15, "t": [now - 900 + 15 * i for i in range(40)],
            "v": [500 + i for i in range(40)]}  # fmt: skip
    page.route("**/chart/*.raw*", lambda route: route.fulfill(
        json={"lines": [line], "note": "From the cluster now: as it is."}))  # fmt: skip
    page.reload()
    expect(note).to_have_text("From the cluster now: as it is.")
    plot = page.locator("figure.chart").first.locator(".plot")
    expect(plot).to_have_attribute("data-state", "ready")
    drawn = "plot => plot.data.filter(line => line.name === 'CPU, raw').map(line => line.x.length)"
    assert plot.evaluate(drawn) == [40]
    page.get_by_role("link", name="Raw: on").click()
    expect(page).not_to_have_url(re.compile("raw"))
    expect(page.locator("[data-raw-note]")).to_have_count(0)
