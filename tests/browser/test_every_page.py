"""Every page in a real Chromium: clean for axe, within its width, in the light and in the dark."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.world import EVIL, EVIL_NODE

# They change nothing, so each may run in whichever lane is free.
pytestmark = [pytest.mark.browser, pytest.mark.any_lane]

_NODE, _POD = quote(EVIL_NODE, safe="/"), quote(EVIL.replace("~", "~0"), safe="/")
_NAMESPACE = quote("=cmd|' /C".replace("/", "~1"), safe="")
PAGES = {
    "fleet": "/", "fleet table": "/?view=table&group=customer",
    "nothing found": "/?q=zzz", "pods": "/pods/", "pods search": "/pods/?q=cart",
    "add": "/clusters/add/", "join": "{waiting}join/", "waiting": "{waiting}",
    "cluster": "{alpha}?range=1h", "nodes": "{alpha}?tab=nodes",
    "cluster pods": "{alpha}?tab=pods", "data": "{alpha}?tab=data",
    "history": "{alpha}?tab=history", "fleet history": "/history/",
    "tunnel": "{alpha}?tab=tunnel", "settings": "{alpha}?tab=settings",
    "no source": "{alpha}source/", "source of a kind": "{alpha}source/?kind=influxdb2",
    "source": "{gamma}source/",
    "filling": "{gamma}?tab=data",
    "node": "{alpha}nodes/node-1/", "evil node": f"{{alpha}}nodes/{_NODE}/",
    "pod": "{alpha}pods/shop/cart-1/", "evil pod": f"{{alpha}}pods/{_NAMESPACE}/{_POD}/",
    "compared": "{alpha}?range=1h&compare=day", "largest": "/pods/?over=6h&by=max",
    "cluster's largest": "{alpha}?tab=pods&over=1h&order=mem_ws",
    "raw": "{alpha}nodes/node-1/?range=1h&raw=1",
    "silent": "{quiet}",
    "help": "/help/", "states": "/help/states/", "retention": "/retention/",
    "customer": "/customers/{customer}/",
    "password": "/accounts/password/change/",
    "two factors": "/accounts/2fa/", "not found": "/nowhere/",
}  # fmt: skip
"""Name -> address, with the names of clusters in place of their pages."""


def path_of(site, page: str) -> str:
    """Return the address of a page in this site's world."""
    names = ("alpha", "waiting", "gamma", "quiet")
    clusters = {name: f"/clusters/{site.do('id', name=name)}/" for name in names}
    customer = site.do("id", name="beta", of="customer_id")
    return PAGES[page].format(customer=customer, **clusters)


@pytest.mark.parametrize("page_name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_every_page_is_clean_for_axe_and_stays_within_its_width(
    site, new_tab, width, scheme, page_name
):
    tab = new_tab(viewport={"width": width, "height": 900}, color_scheme=scheme)
    if page_name == "not found":
        tab.expected = ("404",)
    page = tab.open(path_of(site, page_name))
    page.wait_for_load_state("networkidle")
    results = Axe().run(page, options={"runOnly": [
        "wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})  # fmt: skip
    found = {
        f"{violation['id']}: {violation['help']}": [node["target"] for node in violation["nodes"]]
        for violation in results.response["violations"]
    }
    assert found == {}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hacked") is None
