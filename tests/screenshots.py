"""``make screenshots``: take the pictures of the documentation from a real, simulated fleet.

Starts a centre of its own with the simulator, waits until the fleet reports, and photographs the
pages in Chromium. Everything in the pictures is labelled as simulated, by the pages themselves.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.centre import ROOT, Centre, wait_until

IMAGES = ROOT / "docs" / "img"
CLUSTERS = 100
SETTLE_SECONDS = 200  # one cluster goes away after 150 s: the picture shows an unknown one
SIZE = {"width": 1440, "height": 900}
CHROMIUM = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking")


def main() -> None:
    """Take every picture."""
    with tempfile.TemporaryDirectory(prefix="opscenter-pictures-") as directory:
        centre = Centre(Path(directory) / "data", "--no-local-agent")
        centre.start()
        try:
            centre.wait_until_ready()
            _with_fleet(centre)
        finally:
            centre.close()


def _with_fleet(centre: Centre) -> None:
    fleet = subprocess.Popen(
        [sys.executable, "-m", "tests.fleet", "--clusters", str(CLUSTERS)],
        cwd=ROOT,
        env=centre.environment | {"PYTHONPATH": str(ROOT)},
    )
    try:
        token = centre.manage("create_token", "pictures", "--user", "admin").stdout.strip()
        wait_until(lambda: _reporting(centre, token) >= CLUSTERS - 2, "the fleet reports", 400)
        time.sleep(SETTLE_SECONDS)
        _photograph(centre, _cluster_to_show(centre, token))
    finally:
        fleet.terminate()
        fleet.wait()


def _clusters(centre: Centre, token: str) -> list[dict[str, object]]:
    path = "/api/v1/clusters/?page_size=500"
    status, body = centre.get(path, {"Authorization": f"Token {token}"})
    return json.loads(body)["results"] if status == 200 else []


def _reporting(centre: Centre, token: str) -> int:
    return sum(1 for cluster in _clusters(centre, token) if cluster["data_as_of"])


def _cluster_to_show(centre: Centre, token: str) -> str:
    """Return the id of the worst cluster."""
    return str(_clusters(centre, token)[0]["id"])


def _photograph(centre: Centre, cluster_id: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    password = (centre.data_dir / "admin_password").read_text().strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        context = browser.new_context(viewport=SIZE)
        page = context.new_page()
        _sign_in(page, centre.url, password)
        state = context.storage_state()
        for scheme in ("light", "dark"):
            view = browser.new_context(viewport=SIZE, color_scheme=scheme, storage_state=state)
            page = view.new_page()
            for name, path in (("fleet", "/"), ("cluster", f"/clusters/{cluster_id}/?range=1h")):
                page.goto(centre.url + path)
                page.wait_for_timeout(4000)
                suffix = "" if scheme == "light" else "-dark"
                page.screenshot(path=IMAGES / f"{name}{suffix}.png")
        browser.close()


def _sign_in(page: Page, url: str, password: str) -> None:
    page.goto(f"{url}/accounts/login/")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")


if __name__ == "__main__":
    main()
