"""What shares something slow stays together."""

from __future__ import annotations

import pytest

from tests.lanes import _group


@pytest.fixture(scope="module")
def shared() -> None:
    """Stands for a whole system that all tests of a module use."""


def test_tests_that_share_what_was_started_stay_together(request, shared):
    assert _group(request.node) == "tests/test_lanes.py"


def test_a_test_that_shares_nothing_goes_anywhere(request):
    assert _group(request.node) == ""


@pytest.mark.xdist_group("named")
def test_a_group_that_is_named_is_left_as_it_is(request, shared):
    assert _group(request.node) == ""
