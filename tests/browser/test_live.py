"""Open pages in a real Chromium while something at the centre stands still: not green."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
QUIET_MS = 90_000  # a page asks after 60 s


def test_a_page_is_not_live_while_a_process_is_away_and_says_which(site, tab):
    alpha = f"/clusters/{site.do('id', name='alpha')}/"
    for path in ("/", alpha):
        page = tab.open(path)
        live, banner = page.locator(".live"), page.locator("#centre")
        expect(live).to_have_text("live")
        expect(banner).to_be_hidden()
        site.do("away", process="hub")
        expect(live).to_have_text("not live")
        expect(banner).to_contain_text("The hub: no heartbeat for")
        page.reload()
        expect(banner).to_contain_text("The hub: no heartbeat for")
        expect(live).to_have_text("not live")
        site.do("back", process="hub")
        expect(live).to_have_text("live")
        expect(banner).to_be_hidden()


def test_a_cluster_of_which_nobody_speaks_any_more_turns_unknown_on_open_pages(site, tab, new_tab):
    gamma = site.do("id", name="gamma")
    fleet = tab.open("/")
    own = new_tab().open(f"/clusters/{gamma}/")
    for page in (fleet, own):
        expect(page.locator(".live")).to_have_text("live")
    site.do("forget", name="gamma")
    expect(own.locator("#state")).to_contain_text("unknown")
    expect(fleet.locator(f"#tile-{gamma}")).to_have_class(re.compile("unknown"))
    site.do("remember", name="gamma")  # other files have the same world
    expect(own.locator("#state")).not_to_contain_text("unknown")


def test_a_page_that_hears_nothing_for_a_minute_asks_and_is_not_live_without_an_answer(site, tab):
    tab.expected = ("500",)
    page = tab.open("/")
    expect(page.locator(".live")).to_have_text("live")
    page.route(re.compile("/fleet/updates/"), lambda route: route.fulfill(status=500))
    expect(page.locator(".live")).to_have_text("not live", timeout=QUIET_MS)


@pytest.mark.parametrize("path", ["/", "/clusters/{}/"])
def test_a_page_whose_socket_is_refused_for_want_of_a_session_goes_to_the_sign_in(site, tab, path):
    tab.expected = ("403", "401", "WebSocket")
    page = tab.page

    def sign_out(route):
        page.context.clear_cookies()
        route.continue_()

    page.route(re.compile("/js/live"), sign_out)  # after the page, before its socket
    page.goto(site.url + path.format(site.do("id", name="alpha")))
    expect(page).to_have_url(re.compile("/accounts/login/"))
