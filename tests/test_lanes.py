"""What shares something slow stays together, and lanes have a kind of their own."""

from __future__ import annotations

import pytest

from tests.lanes import group_of, next_group

PAGES = "tests/browser/test_pages.py"
ONE_PAGE = "tests/browser/test_every_page.py::test_a[b]"
SCENE = "tests/e2e/scene"
UP = "tests/opscenter/processes"


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("tests/e2e/scene/test_joining.py", "tests/e2e/scene"),  # one scene for all of its files
        (f"{UP}/test_up.py", f"{UP}/test_up.py"),
        ("tests/browser/test_pages.py", "tests/browser/test_pages.py"),
    ],
)
def test_what_shares_a_slow_fixture_or_a_world_stays_together(path, group):
    assert group_of(f"{path}::test_a[x]") == group_of(f"{path}::test_b") == group


@pytest.mark.parametrize("path", [f"{UP}/test_up_only.py", "tests/browser/test_every_page.py"])
def test_what_shares_nothing_goes_anywhere(path):
    assert group_of(f"{path}::test_a[a::b]") == f"{path}::test_a[a::b]"


@pytest.mark.parametrize(
    ("waiting", "of_pages", "of_systems"),
    [
        ((SCENE, f"{UP}/test_up_only.py::test_a", PAGES, ONE_PAGE), PAGES, SCENE),
        ((f"{UP}/test_up.py", ONE_PAGE), ONE_PAGE, f"{UP}/test_up.py"),
        ((PAGES, ONE_PAGE), PAGES, PAGES),
        ((SCENE,), SCENE, SCENE),
    ],
)
def test_a_lane_takes_its_own_kind_first_and_then_helps_with_the_other(
    waiting, of_pages, of_systems
):
    assert next_group(waiting, pages_first=True) == of_pages
    assert next_group(waiting, pages_first=False) == of_systems
