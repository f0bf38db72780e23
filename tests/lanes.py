"""What stays together when tests run in lanes (``--lanes``), and in which order.

Tests that share something slow, by a fixture of their module or package, stay in one lane, so that
it is started once. Those of a browser stay with their file, as they change the site's world one
after the other, save where ``any_lane`` says that they do not. All others go to whichever lane is
free. pytest-xdist's own groups are of no use here: with pytest 9.2 it forgets them silently, as
they travel in a part of the node's name that pytest does not look at any more.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent


class Lanes(LoadScopeScheduling):
    """Give a lane a whole group at a time, in the order in which tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lanes", action="store_true", help="with -n: keep together what shares a slow fixture"
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes | None:
    """Take our order instead of pytest-xdist's."""
    if not config.getoption("--lanes"):
        return None
    config.option.loadscopereorder = False
    return Lanes(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let whole systems go first, groups before single tests, as they take longest."""
    if config.getoption("--lanes"):
        items.sort(key=_turn)


def group_of(nodeid: str) -> str:
    """Return the folder or file that a test must stay with; the test itself where there is none."""
    path = nodeid.partition("::")[0]
    return _shared_by(path) or nodeid


@functools.cache
def _shared_by(path: str) -> str:
    folder = (ROOT / path).parent
    beside = folder / "conftest.py"
    if beside.exists() and 'scope="package"' in beside.read_text(encoding="utf-8"):
        return folder.relative_to(ROOT).as_posix()
    text = (ROOT / path).read_text(encoding="utf-8")
    in_order = "mark.browser" in text and "mark.any_lane" not in text
    return path if in_order or 'scope="module"' in text else ""


def _turn(item: pytest.Item) -> tuple[bool, bool]:
    return (item.get_closest_marker("e2e") is None, group_of(item.nodeid) == item.nodeid)
