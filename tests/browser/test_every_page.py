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
    "silent": "{quiet}", "in the future": "{alpha}?start=9000000000&end=9000003600",
    "sourced node": "{sourced}nodes/node-1/?range=1h",
    "help": "/help/", "states": "/help/states/", "retention": "/retention/",
    "customer": "/customers/{customer}/",
    "password": "/accounts/password/change/",
    "two factors": "/accounts/2fa/", "not found": "/nowhere/",
}  # fmt: skip
"""Name -> address, with the names of clusters in place of their pages."""


def path_of(site, page: str) -> str:
    """Return the address of a page in this site's world."""
    names = ("alpha", "waiting", "gamma", "quiet", "sourced")
    clusters = {name: f"/clusters/{site.do('id', name=name)}/" for name in names}
    customer = site.do("id", name="beta", of="customer_id")
    return PAGES[page].format(customer=customer, **clusters)


def violations(page, within: str | None = None) -> dict[str, list[object]]:
    """Return what axe finds on a page or within an element: the rule, and what breaks it."""
    # What passes is neither listed nor sent: only violations are read.
    results = Axe().run(page, context=within, options={"resultTypes": ["violations"], "runOnly": [
        "wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})  # fmt: skip
    return {
        f"{violation['id']}: {violation['help']}": [node["target"] for node in violation["nodes"]]
        for violation in results.response["violations"]
    }


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
    assert violations(page) == {}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hacked") is None


CONTRASTS = """menu => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colour, below) => {
    canvas.fillStyle = `rgb(${below})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const ground = (e) => e
    ? over(getComputedStyle(e).backgroundColor, ground(e.parentElement)) : [255, 255, 255];
  const light = (rgb) => rgb.map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  return [...menu.querySelectorAll("summary, div :is(a, button, label, input, p)")]
    .filter((e) => e.checkVisibility() && e.type !== "hidden").map((e) => {
      const below = ground(e), word = over(getComputedStyle(e).color, below);
      const [a, b] = [light(below), light(word)].sort((x, y) => y - x);
      return [e.textContent.trim() || e.id, (a + 0.05) / (b + 0.05)];
    });
}"""
"""The contrast of every word of an open menu to what is behind it, by computed colours."""


@pytest.mark.parametrize("width", [1440, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_menu_can_be_read_and_is_clean_for_axe_while_it_is_open(site, new_tab, scheme, width):
    tab = new_tab(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = tab.open(f"{path_of(site, 'sourced node')}")
    page.wait_for_load_state("networkidle")
    menus = page.locator("details.menu")
    seen = []
    for index in range(menus.count()):
        menu = menus.nth(index)
        menu.locator("summary").click()
        words = menu.evaluate(CONTRASTS)
        assert [entry for entry in words if entry[1] < 4.5] == []
        seen += [text for text, _ in words]
        # What an open menu covers in part is too small to touch until it is closed.
        assert violations(page, "details.menu[open]") == {}
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("Escape")
    wanted = {"Show", "Zoom out", "UTC", "Sign out", "day before", "The cluster's, Asia/Kolkata"}
    assert wanted <= set(seen)
