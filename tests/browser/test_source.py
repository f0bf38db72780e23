"""The form of a source, by keyboard, against a hub that is not there."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_a_source_is_tested_by_keyboard_and_its_failure_is_named(site, tab):
    gamma = f"/clusters/{site.do('id', name='gamma')}/"
    tab.expected = ("422",)  # the answer to a test that failed
    page = tab.open(f"{gamma}?tab=settings")
    page.get_by_role("link", name="Choose and test a source").press("Enter")
    expect(page.get_by_role("heading", name="InfluxDB 1.6.7")).to_be_visible()
    expect(page.get_by_text("Missing: 2 of")).to_be_visible()
    expect(page.get_by_text("Add this to the agent's environment", exact=False)).to_be_visible()
    page.get_by_role("link", name="Prometheus or VictoriaMetrics").press("Enter")
    expect(page.get_by_label("Tunnel service")).to_have_value("prometheus")
    prefix = page.get_by_label("Path prefix")
    prefix.fill("no slash")
    prefix.press("Enter")
    expect(page.get_by_text("write it as /part or /part/part")).to_be_visible()
    page.get_by_label("Path prefix").fill("/prometheus")
    page.get_by_role("button", name="Test only").press("Enter")
    expect(page.get_by_role("alert").filter(has_text="hub cannot be reached")).to_be_visible(
        timeout=60_000
    )
    expect(page.get_by_text("Nothing was changed.")).to_be_visible()
