"""Times in the zone that the reader chose, in a real Chromium at three places of the world."""

from __future__ import annotations

import csv
import re
import time
from datetime import datetime
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import place_of, point_at, ready

# They change nothing, so each may run in whichever lane is free.
pytestmark = [pytest.mark.browser, pytest.mark.any_lane]
ZONES = ["UTC", "Asia/Kolkata", "America/New_York"]
SCREEN = {"width": 1440, "height": 900}


@pytest.fixture
def node(site) -> str:
    return f"/clusters/{site.do('id', name='alpha')}/nodes/node-1/"


def clock(unix: float, zone: str) -> str:
    return f"{datetime.fromtimestamp(unix, ZoneInfo(zone)):%H:%M}"


def dated(unix: float, zone: str) -> str:
    """Return a minute as pages write it: with its date unless that is today."""
    at, today = (datetime.fromtimestamp(t, ZoneInfo(zone)) for t in (unix, time.time()))
    return f"{at:%H:%M}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M}"


def ticks(plot) -> list[tuple[float, str]]:
    """Return the drawn labels of a time axis, each with the Unix time that it stands at."""
    found = plot.evaluate(
        """plot => {
          const { l, r } = plot.layout.margin, [start, end] = plot.layout.xaxis.range;
          const box = plot.getBoundingClientRect(), scale = (end - start) / (box.width - l - r);
          return [...plot.querySelectorAll(".xtick text")].map((text) => {
            const line = (text.querySelector("tspan") ?? text).getBoundingClientRect();
            return [start + (line.left + line.width / 2 - box.left - l) * scale, text.textContent];
          });
        }"""
    )
    return [(at, text[:5]) for at, text in found]


@pytest.mark.parametrize("zone", ZONES)
def test_the_axis_and_the_cross_hair_read_local_time(site, new_tab, node, zone):
    page = new_tab(viewport=SCREEN, timezone_id=zone).open(f"{node}?range=1h")
    plot = ready(page)
    labels = ticks(plot)
    assert len(labels) >= 3
    for at, text in labels:
        nearest = round(at / 300) * 300
        assert abs(at - nearest) < 60
        assert text == clock(nearest, zone)
    at = int(time.time()) // 60 * 60 - 1200
    point_at(page, plot, at + 30)
    utc = "" if zone == "UTC" else f" ({clock(at, 'UTC')} UTC)"
    expect(page.locator("[data-covered]").first).to_have_text(f"{dated(at, zone)}{utc}")


@pytest.mark.parametrize("zone", ZONES)
def test_dragging_asks_for_the_hours_that_were_dragged_over(site, new_tab, node, zone):
    page = new_tab(viewport=SCREEN, timezone_id=zone).open(f"{node}?range=1h")
    plot = ready(page)
    box = plot.bounding_box()
    now = int(time.time())
    first, last = now - 2400, now - 1200
    page.mouse.move(place_of(plot, first), box["y"] + 60)
    page.mouse.down()
    page.mouse.move(place_of(plot, last), box["y"] + 70, steps=8)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"start=\d+&end=\d+"))
    asked = parse_qs(urlsplit(page.url).query)
    assert abs(int(asked["start"][0]) - first) < 60
    assert abs(int(asked["end"][0]) - last) < 60
    ready(page)
    shown = page.locator("[data-range-menu] summary")
    expect(shown).to_contain_text(clock(int(asked["start"][0]), zone))
    expect(shown).to_contain_text(clock(int(asked["end"][0]), zone))


@pytest.mark.parametrize("zone", ZONES)
def test_a_range_is_typed_in_local_time(site, new_tab, node, zone):
    page = new_tab(viewport=SCREEN, timezone_id=zone).open(f"{node}?range=1h")
    page.keyboard.press("t")
    now = int(time.time()) // 60 * 60
    for name, at in (("From", now - 3000), ("To", now - 1200)):
        page.get_by_label(name, exact=True).fill(
            f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%Y-%m-%dT%H:%M}"
        )
    page.get_by_label("To", exact=True).press("Enter")
    expect(page).to_have_url(re.compile(rf"start={now - 3000}&end={now - 1200}$"))


def test_an_hour_that_comes_twice_is_drawn_twice_and_none_is_lost(site, new_tab):
    page = new_tab(timezone_id="America/New_York").open("/")
    autumn = int(datetime(2026, 11, 1, 4, tzinfo=ZoneInfo("UTC")).timestamp())
    script = """async (start) => {
      const { ticks } = await import("/static/js/axis.js");
      const found = ticks(start, start + 4 * 3600, 6);
      return [found.tickvals.map((at) => (at - start) / 3600), found.ticktext];
    }"""
    hours, texts = page.evaluate(script, autumn)
    assert hours == [0, 1, 2, 3, 4]
    assert [text[:5] for text in texts] == ["00:00", "01:00", "01:00", "02:00", "03:00"]
    spring = int(datetime(2027, 3, 14, 5, tzinfo=ZoneInfo("UTC")).timestamp())
    assert [text[:5] for text in page.evaluate(script, spring)[1]] == [
        "00:00", "01:00", "03:00", "04:00", "05:00",
    ]  # fmt: skip


def test_ticks_of_days_and_months_stand_at_the_zones_midnight(site, new_tab):
    page = new_tab(timezone_id="Asia/Kolkata").open("/")
    start = int(datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Kolkata")).timestamp())
    script = """async ([start, days]) => {
      const { ticks } = await import("/static/js/axis.js");
      return ticks(start, start + days * 86400, 8);
    }"""
    for days in (5, 90, 730):
        for at in page.evaluate(script, [start, days])["tickvals"]:
            assert clock(at, "Asia/Kolkata") == "00:00"
    assert page.evaluate(script, [start, 730])["ticktext"][:2] == ["Jan<br>2026", "Apr"]


def test_the_zone_of_a_page_is_chosen_in_its_head_and_kept(site, new_tab, node):
    tab = new_tab(viewport=SCREEN, timezone_id="America/New_York")
    page = tab.open(f"{node}?range=1h")
    plot = ready(page)
    menu = page.locator("[data-zone-menu]")
    expect(menu.locator("summary")).to_contain_text("New York")
    menu.locator("summary").click()
    menu.get_by_role("button", name="UTC").click()
    expect(menu.locator("summary")).to_contain_text("UTC")
    expect(menu.locator("summary")).to_be_focused()
    expect(menu.get_by_role("button", name="UTC", include_hidden=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.locator("#state time[data-time]").first).to_have_attribute(
        "title", re.compile("America/New_York$")
    )
    assert all(text == clock(round(at / 300) * 300, "UTC") for at, text in ticks(plot))
    page = tab.open("/")
    expect(page.locator("footer [data-zone]")).to_have_text("UTC")


def test_a_link_may_name_the_zone_that_it_is_read_in(site, new_tab, node):
    tab = new_tab(viewport=SCREEN, timezone_id="America/New_York")
    page = tab.open(f"{node}?range=1h&tz=utc")
    assert all(text == clock(round(at / 300) * 300, "UTC") for at, text in ticks(ready(page)))
    page.get_by_role("link", name="6 h", exact=True).click()
    expect(page).to_have_url(re.compile("range=6h"))
    assert all(text == clock(round(at / 300) * 300, "UTC") for at, text in ticks(ready(page)))
    page = new_tab(timezone_id="America/New_York").open(f"{node}?tz=nonsense")
    expect(page.locator("footer [data-zone]")).to_have_text("America/New_York")


def test_a_cluster_that_names_its_zone_is_read_in_it(site, new_tab):
    cluster = f"/clusters/{site.do('id', name='sourced')}/"
    tab = new_tab(viewport=SCREEN, timezone_id="America/New_York")
    page = tab.open(f"{cluster}nodes/node-1/?range=1h")
    page.locator("[data-zone-menu] summary").click()
    page.get_by_role("button", name="The cluster's, Asia/Kolkata").click()
    labels = ticks(ready(page))
    assert all(text == clock(round(at / 300) * 300, "Asia/Kolkata") for at, text in labels)
    page = tab.open("/")  # no cluster's page: the reader's own
    expect(page.locator("footer [data-zone]")).to_have_text("America/New_York")


def test_a_page_that_stays_open_over_midnight_gives_its_times_their_date(site, new_tab, node):
    tab = new_tab(timezone_id="America/New_York")
    tab.page.clock.install()
    page = tab.open(node)
    first = page.locator("#state time[data-time]")
    expect(first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    page.clock.fast_forward("24:00:00")
    expect(first).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d$"))


def test_a_file_says_that_its_times_are_in_utc_and_they_are(site, new_tab, node):
    page = new_tab(viewport=SCREEN, timezone_id="Asia/Kolkata").open(f"{node}?range=1h")
    link = page.get_by_role("link", name="CPU used as CSV, times in UTC")
    with page.expect_download() as saved:
        link.click()
    for line in csv.DictReader(saved.value.path().read_text().splitlines()):
        at = datetime.fromisoformat(line["time_utc"])
        assert at.timestamp() == int(line["unix_s"])


def test_the_data_table_has_no_other_zone_beside_local_time(site, new_tab, node):
    page = new_tab(viewport=SCREEN, timezone_id="Asia/Kolkata").open(f"{node}?range=6h")
    ready(page)
    page.locator("figure.chart").first.get_by_text("Data table").click()
    table = page.locator("figure.chart").first.locator("table")
    gap = table.locator("tr.gap").first
    expect(gap).to_contain_text("nothing was recorded at the source")
    expect(table).not_to_contain_text("UTC")
    until = gap.locator("time").nth(1)
    utc = re.search(r"(\d\d):(\d\d):\d\d UTC", until.get_attribute("title"))
    local = re.search(r"(\d\d):(\d\d)", until.inner_text())
    minutes = [int(m.group(1)) * 60 + int(m.group(2)) for m in (utc, local)]
    assert (minutes[1] - minutes[0]) % 1440 == 330


def test_a_range_in_the_future_or_without_length_is_refused_in_words(site, new_tab, node):
    page = new_tab(viewport=SCREEN, timezone_id="America/New_York").open(f"{node}?range=1h")
    now = int(time.time()) // 60 * 60
    page.keyboard.press("t")
    first, last = page.get_by_label("From", exact=True), page.get_by_label("To", exact=True)
    expect(first).to_be_focused()
    for start, end, field, words in (
        (now + 3600, now + 7200, first, "in the future"),
        (now - 1200, now - 2400, last, "must be after the start"),
        (now - 1200, now - 1140, last, "shortest range is 5 minutes"),
    ):
        for box, at in ((first, start), (last, end)):
            box.fill(f"{datetime.fromtimestamp(at, ZoneInfo('America/New_York')):%Y-%m-%dT%H:%M}")
        page.get_by_role("button", name="Show").click()
        assert words in field.evaluate("e => e.validationMessage")
    assert "range=1h" in page.url
    page.goto(f"{page.url.partition('?')[0]}?start={now + 3600}&end={now + 7200}")
    note = page.locator(".range-note")
    expect(note).to_have_text("This range is in the future. The last 6 h are shown instead.")
