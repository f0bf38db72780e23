"""What administrators decide about data, in a real Chromium: shown first, then saved."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import sign_in

pytestmark = pytest.mark.browser


@pytest.fixture(params=["light 1440", "dark 360"])
def admin_page(site, browser, request):
    scheme, width = request.param.split()
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": int(width), "height": 900}
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    sign_in(page, site, "admin")
    yield page
    context.close()


def is_well(page) -> None:
    """Check what axe says and that nothing is wider than the screen."""
    assert Axe().run(page).response["violations"] == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]


def test_a_class_is_changed_after_its_preview_was_seen(site, admin_page):
    page = admin_page
    page.goto(f"{site.url}/retention/")
    page.get_by_role("link", name="Edit").first.click()
    page.get_by_label("pod, 1m: days").fill("1")
    page.get_by_role("button", name="Preview changes").click()
    effect = page.locator("#effect")
    expect(effect).to_contain_text("permanently deletes")
    expect(effect.locator("tbody tr")).to_have_count(1)
    is_well(page)
    page.get_by_label("pod, 1m: days").fill("91")
    page.get_by_role("button", name="Preview again").click()
    expect(page.get_by_role("alert")).to_contain_text("keep a coarser tier at least as long")
    is_well(page)
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", name="Retention and holds")).to_be_visible()


def test_a_hold_an_export_and_their_end_on_the_customers_page(site, admin_page):
    page = admin_page
    page.goto(f"{site.url}/customers/{site.do('id', name='beta', of='customer_id')}/")
    is_well(page)
    page.goto(f"{site.url}/clusters/{site.do('id', name='beta')}/?tab=data")
    is_well(page)
    page.get_by_role("link", name="Retention and export of").click()
    page.get_by_label("Reason").fill("court file 7")
    page.get_by_role("button", name="Place a legal hold").click()
    expect(page.locator(".why.hold")).to_contain_text("court file 7")
    expect(page.get_by_text("Not possible while a legal hold is active.")).to_be_visible()
    page.get_by_role("button", name="Export as CSV").click()
    # No worker runs here: it waits, and the list refreshes by itself.
    with page.expect_response(lambda answer: "/exports/customer/" in answer.url):
        expect(page.locator("#exports")).to_contain_text("waiting for a worker")
    is_well(page)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Export as CSV")).to_be_visible()
    page.get_by_role("button", name="Lift the legal hold").click()
    expect(page.locator(".why.hold")).to_have_count(0)
    assert page.evaluate("window.hacked") is None
