"""What stays together when tests run in lanes (``--lanes``), and in which order.

Tests that share something slow, by a fixture of their module or package, stay in one lane, so that
it is started once. Those of a browser stay with their file, as they change the site's world one
after the other, save where ``any_lane`` says that they do not. All others go to whichever lane is
free.

Whole systems mostly wait, pages of a browser mostly compute. So one lane, the last, begins with the
pages and the others with whole systems; whoever is through with its kind helps with the other.
That keeps the cores busy without more systems beside each other than there are cores.

pytest-xdist's own groups are of no use here: with pytest 9.2 it forgets them silently, as
they travel in a part of the node's name that pytest does not look at any more.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ROOT = Path(__file__).resolve().parent.parent


class Lanes(LoadScopeScheduling):
    """Give a lane a whole group at a time, of its kind as long as there are any."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        pages_first = len(self.nodes) > 1 and node is self.nodes[-1]
        group = next_group(self.workqueue, pages_first=pages_first)
        self.workqueue.move_to_end(group, last=False)
        super()._assign_work_unit(node)


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
    """Let whole systems go first, then pages; of each the largest groups first.

    A lane that has two tests left is given its next group: behind a single long test that would be
    a large group that waits while other lanes are free.
    """
    if config.getoption("--lanes"):
        sizes = Counter(group_of(item.nodeid) for item in items)
        items.sort(
            key=lambda item: (
                item.get_closest_marker("e2e") is None,
                group_of(item.nodeid) == item.nodeid,
                -sizes[group_of(item.nodeid)],
            )
        )


def group_of(nodeid: str) -> str:
    """Return the folder or file that a test must stay with; the test itself where there is none."""
    path = nodeid.partition("::")[0]
    return _shared_by(path) or nodeid


def next_group(waiting: Iterable[str], *, pages_first: bool) -> str:
    """Return the group that a lane runs next.

    Args:
        waiting: the groups that no lane has, in their order; at least one.
        pages_first: whether the lane prefers pages of a browser to whole systems.
    """
    groups = list(waiting)
    return next((group for group in groups if is_of_pages(group) == pages_first), groups[0])


@functools.cache
def is_of_pages(group: str) -> bool:
    """Return whether a group needs a browser and a site, but no whole system."""
    file = ROOT / group.partition("::")[0]
    if not file.is_file():
        return False
    text = file.read_text(encoding="utf-8")
    return "mark.browser" in text and "mark.e2e" not in text


@functools.cache
def _shared_by(path: str) -> str:
    folder = (ROOT / path).parent
    beside = folder / "conftest.py"
    if beside.exists() and 'scope="package"' in beside.read_text(encoding="utf-8"):
        return folder.relative_to(ROOT).as_posix()
    text = (ROOT / path).read_text(encoding="utf-8")
    in_order = "mark.browser" in text and "mark.any_lane" not in text
    return path if in_order or 'scope="module"' in text else ""
