"""A cluster whose names attack: every page, chart, CSV and API answer shows them as text."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.centre import wait_until
from tests.e2e.scene.conftest import HEALTHY
from tests.fleet.hostile import MARK

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(600)]

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
LABEL = f"\"><script>alert('{MARK}')</script>"


@pytest.fixture(scope="module")
def hostile(scene):
    """The cluster's id, with a label of the same kind, once its data is in."""
    wait_until(lambda: scene.named(HEALTHY)["data_as_of"], "hostile names arrive", 150)
    cluster_id = scene.named(HEALTHY)["id"]
    labels = {"note": LABEL, "simulated": "yes"}
    status, body = scene.api.ask("PATCH", f"/clusters/{cluster_id}/", {"labels": labels})
    assert status == 200, body
    return cluster_id


@pytest.fixture(scope="module")
def nodes(scene, hostile):
    return scene.api.get(f"/clusters/{hostile}/nodes/?page_size=200")["results"]


@pytest.fixture(scope="module")
def pods(scene, hostile):
    return scene.api.get(f"/clusters/{hostile}/pods/?page_size=200")["results"]


@pytest.fixture(scope="module")
def context(pages) -> Iterator[BrowserContext]:
    path = shutil.which("chromium")
    assert path, "chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        context = browser.new_context()
        context.add_cookies(pages.cookies)
        yield context
        browser.close()


def paths(hostile, pages) -> Iterator[str]:
    """Yield every page on which a name of the cluster appears, by the links of the pages."""
    cluster = f"/clusters/{hostile}/"
    yield from (
        "/",
        "/?view=tiles",
        f"/?q={MARK}",
        f"/pods/?q={MARK}",
        f"/?label=note={quote(LABEL)}",
    )
    yield from (f"{cluster}?tab={tab}" for tab in ("overview", "nodes", "pods", "data", "tunnel"))
    yield f"{cluster}?tab=settings"
    yield f"{cluster}?tab=pods&{urlencode({'q': f'<script>{MARK}'})}"
    for tab in ("nodes", "pods"):
        links = re.findall(rf'href="({cluster}{tab}/[^"]+)"', pages.get(f"{cluster}?tab={tab}"))
        assert len(links) >= 10
        yield from (html.unescape(link) for link in dict.fromkeys(links[:40]))


def test_no_script_dialog_link_or_markup_comes_from_a_name(scene, hostile, pages, context):
    page = context.new_page()
    troubles: list[str] = []
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    marked = 0
    for path in paths(hostile, pages):
        response = page.goto(scene.centre.url + path, wait_until="load")
        assert response is not None
        assert response.status == 200, (response.status, path)
        page.wait_for_timeout(150)  # charts and parts arrive by script
        assert "set-cookie" not in response.headers or MARK not in response.headers["set-cookie"]
        marked += MARK in page.inner_text("body")
        assert strange_elements(page) == [], path
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
        assert not wide, f"{path}: a long name makes the page scroll sideways"
    assert troubles == []
    ours = (scene.centre.url, "data:", "blob:")
    assert [url for url in requests if not url.startswith(ours)] == []
    assert marked > 20  # the names are there, as text


def strange_elements(page: Page) -> list[str]:
    """Return elements that a name would have made: scripts, handlers, foreign links, svg."""
    return list(
        page.evaluate(
            """mark => [...document.querySelectorAll('*')].filter(e =>
                 (e.tagName === 'SCRIPT' && e.textContent.includes('alert('))
                 || [...e.attributes].some(a => a.name.startsWith('on'))
                 || (e.href && new URL(e.href, location).origin !== location.origin)
                 || (e.tagName === 'IMG' && e.getAttribute('src') === 'x')
               ).map(e => e.outerHTML.slice(0, 200))""",
            MARK,
        )
    )


def test_charts_and_csv_hold_names_as_text_only(hostile, nodes, pods, pages):
    things = [("node", "cpu", item) for item in nodes] + [("pod", "memory", item) for item in pods]
    for kind, panel, item in things[:40]:
        asked = urlencode({"kind": kind, "ns": item["ns"], "name": item["name"]})
        figure = pages.get(f"/clusters/{hostile}/chart/{panel}.json?{asked}")
        json.loads(figure)
        assert "<script" not in figure
        assert "<a href" not in figure
        assert "<img" not in figure
        table = pages.get(f"/clusters/{hostile}/chart/{panel}.html?{asked}")
        assert f"alert('{MARK}')" not in table
        text = pages.get(f"/clusters/{hostile}/chart/{panel}.csv?{asked}")
        rows = list(csv.reader(io.StringIO(text)))
        assert len(rows) > 2
        assert {len(row) for row in rows} == {len(rows[0])}
        for row in rows[1:]:
            assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row[:3]), row
            assert row[2].replace("'", "") == item["name"].replace("'", "")


def test_the_api_gives_names_without_what_does_not_print(scene, hostile, nodes, pods):
    names = [item[part] for item in nodes + pods for part in ("ns", "name", "node")]
    assert any("<script>" in name for name in names)  # JSON needs no escape
    assert max(map(len, names)) <= 253
    for name in names:
        assert name.isprintable(), ascii(name)
    attributes = [
        text
        for item in nodes + pods
        for text in (*item["attributes"], *item["attributes"].values())
    ]
    assert all(text.isprintable() for text in attributes)
    seen = scene.api.cluster(hostile)
    assert seen["agent_version"].isprintable()
    assert seen["labels"]["note"] == LABEL
    for node in nodes:
        asked = urlencode({"kind": "node", "name": node["name"], "field": "cpu_mc"})
        assert scene.api.get(f"/clusters/{hostile}/range?{asked}")["t"]
