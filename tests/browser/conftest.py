"""A real site for a real browser: uvicorn, redis and a world of clusters, in its own directory.

Needs ``redis-server`` and ``chromium`` on the PATH; without them these tests fail, they do not
skip.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

from opscenter.core.paths import runtime_directory
from tests.factories import PASSWORD

expect.set_options(timeout=20_000)  # the machine may be busy with other tests
ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def needed(program: str) -> str:
    """Return the path of a program that these tests cannot do without."""
    path = shutil.which(program)
    if path is None:
        pytest.fail(f"{program} is not on the PATH; on Debian: apt-get install {program}")
    return path


class Site:
    """The running site: its address, its web process, and the world behind it."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("OPSCENTER_")},
            "OPSCENTER_DATA_DIR": str(directory),
            "OPSCENTER_PORT": str(self.port),
        }
        for name in ("REDIS_URL", "DATABASE_URL"):
            self.env.pop(name, None)
        run = runtime_directory(directory)
        self.redis = subprocess.Popen(
            [needed("redis-server"), "--port", "0", "--unixsocket", str(run / "redis.sock"),
             "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.world = subprocess.Popen(
            [sys.executable, "-m", "tests.browser.world"], cwd=ROOT, env=self.env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.world.stdout is not None
        assert self.world.stdout.readline().strip() == "ready"
        self.web = self.start_web()

    def start_web(self) -> subprocess.Popen[bytes]:
        """Start the web process and wait until it answers."""
        web = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "opscenter.asgi:application", "--port",
             str(self.port), "--log-level", "warning",
             "--http", "opscenter.web.http_protocol:BoundedProtocol",
             "--timeout-graceful-shutdown", "1"], cwd=ROOT, env=self.env,
        )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=5).close()
            except OSError:
                assert web.poll() is None, "the web process ended"
                assert time.monotonic() < until, "the web process does not answer"
                time.sleep(0.1)
            else:
                return web

    def stop_web(self) -> None:
        self.web.terminate()
        self.web.wait(timeout=20)

    def do(self, what: str, **details: Any) -> Any:
        """Let something happen to the world's clusters; return its answer."""
        assert self.world.stdin is not None
        assert self.world.stdout is not None
        self.world.stdin.write(json.dumps({"do": what, **details}) + "\n")
        self.world.stdin.flush()
        return json.loads(self.world.stdout.readline())

    def close(self) -> None:
        for process in (self.web, self.world, self.redis):
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("site"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=needed("chromium"), args=ARGUMENTS)
        yield chromium
        chromium.close()


def sign_in(page: Page, site: Site, user: str = "operator") -> None:
    page.goto(f"{site.url}/accounts/login/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.url}/")


@pytest.fixture(scope="session")
def state(site: Site, browser: Browser) -> Any:
    """Return the cookies of a signed-in operator."""
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, site)
    saved = context.storage_state()
    context.close()
    return saved


def ready(page: Page) -> Locator:
    """Return the first chart of a page once it is drawn."""
    plot = page.locator(".plot").first
    expect(plot).to_have_attribute("data-state", "ready")
    return plot


def place_of(plot: Locator, unix: float) -> float:
    """Return how far to the right of the window's edge a moment of a chart is, in pixels."""
    share = """(plot, at) => {
      const { l, r } = plot.layout.margin, [start, end] = plot.layout.xaxis.range;
      const box = plot.getBoundingClientRect();
      return box.left + l + ((at - start) / (end - start)) * (box.width - l - r);
    }"""
    return float(plot.evaluate(share, unix))


def point_at(page: Page, plot: Locator, unix: float) -> None:
    """Move the pointer over a moment of a chart."""
    box = plot.bounding_box()
    assert box is not None
    across = place_of(plot, unix)
    page.mouse.move(across - 1, box["y"] + 60)
    page.mouse.move(across, box["y"] + 60)


class Tab:
    """A signed-in tab. Every error in it fails the test, except one that contains ``expected``."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.page = context.new_page()
        self.site = site
        self.errors: list[str] = []
        self.expected: tuple[str, ...] = ()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.on("requestfailed", self._failed)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text}")

    def _failed(self, request: Request) -> None:
        # A page that is left ends its requests.
        if request.failure != "net::ERR_ABORTED":
            self.errors.append(f"{request.url}: {request.failure}")

    def wrong(self) -> list[str]:
        """Return what went wrong and was not expected."""
        return [text for text in self.errors if not any(part in text for part in self.expected)]

    def open(self, path: str) -> Page:
        self.page.goto(self.site.url + path)
        return self.page


@pytest.fixture
def new_tab(site: Site, browser: Browser, state: Any) -> Iterator[Any]:
    """Return a function that opens a tab; keywords go to the browser's context.

    At the end, no tab may have an error or a warning in its console, or a failed request.
    """
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def make(**options: Any) -> Tab:
        contexts.append(browser.new_context(storage_state=state, **options))
        contexts[-1].set_default_timeout(20_000)
        tabs.append(Tab(contexts[-1], site))
        return tabs[-1]

    yield make
    wrong = [text for tab in tabs for text in tab.wrong()]
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def tab(new_tab: Any) -> Tab:
    made: Tab = new_tab(viewport={"width": 1440, "height": 900})
    return made
