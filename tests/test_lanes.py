"""What shares something slow stays together."""

from __future__ import annotations

import pytest

from tests.lanes import group_of

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
