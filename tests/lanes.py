"""What stays together when tests run in several lanes (``--dist loadgroup``), and in which order.

Tests that share something slow, because one of their fixtures lives as long as their module or
package, stay in one lane, so that it is started once. Those of a browser stay with their file, as
they change the site's world one after the other, save where ``xdist_group`` says that they do not.
All others go to whichever lane is free.
"""

from __future__ import annotations

import pytest

_WIDE = ("module", "package")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its group; whole systems go first, as they take longest."""
    if not config.getoption(
        "loadgroup", default=False
    ):  # without lanes: as they are in their files
        return
    for item in items:
        group = _group(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_turn)


def _group(item: pytest.Item) -> str:
    """Return what a test must stay with; empty where that is nothing."""
    if item.get_closest_marker("xdist_group"):
        return ""
    found = getattr(item, "_fixtureinfo", None)
    definitions = found.name2fixturedefs.values() if found else ()
    shared = [one[-1] for one in definitions if one[-1].scope in _WIDE and one[-1].baseid]
    if shared:  # of a package and a module, the package
        return min((one.baseid for one in shared), key=len)
    if item.get_closest_marker("browser"):
        return item.nodeid.split("::")[0]
    return ""


def _turn(item: pytest.Item) -> tuple[bool, bool]:
    alone = item.get_closest_marker("xdist_group") is None
    return (item.get_closest_marker("e2e") is None, alone)
