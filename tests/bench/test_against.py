"""Two checkouts are compared figure by figure, and the worst is named."""

from __future__ import annotations

import subprocess

import pytest

from tests.bench.against import (
    ROOT,
    Difference,
    checked_out,
    differences,
    figures,
    only_in_one,
    table,
)

SPEED, SIZE, LOST = ("store", "M1", "rows/s"), ("size", "M3", "B/value"), ("crash", "lost", "")


def test_medians_over_the_rounds_are_compared_whatever_else_was_measured_in_between():
    this = [{SPEED: 90.0}, {SIZE: 2.0}, {SPEED: 110.0}, {SPEED: 100.0}]
    other = [{SPEED: 200.0}, {SIZE: 1.0}]
    assert differences(this, other) == [Difference(SPEED, 100, 200), Difference(SIZE, 2, 1)]


def test_what_only_one_of_them_has_is_told_and_not_compared():
    assert differences([{SPEED: 1.0}], [{SIZE: 1.0}]) == []
    assert only_in_one([{SPEED: 1.0}], [{SIZE: 1.0}]) == [SIZE, SPEED]
    assert "only in one: size M3 B/value" in table([], [SIZE])


@pytest.mark.parametrize(
    ("figure", "this", "other", "times_worse"),
    [
        (SPEED, 100, 200, 2.0),  # rows a second: more is better
        (SPEED, 200, 100, 0.5),
        (SIZE, 2, 1, 2.0),  # bytes: less is
        (LOST, 0, 0, 1.0),
        (LOST, 1, 0, float("inf")),
        (LOST, 0, 3, 0.0),
    ],
)
def test_worse_is_slower_larger_or_anything_lost(figure, this, other, times_worse):
    assert Difference(figure, this, other).times_worse == times_worse


def test_the_worst_is_named_at_the_end():
    text = table([Difference(SPEED, 210, 200), Difference(SIZE, 1.1, 1.0)], [])
    assert "1.10 times worse" in text
    assert text.splitlines()[-1].split() == ["size", "M3", "B/value", "1.1", "1", "1.10"]


def test_what_was_not_measured_is_no_figure():
    measures = [
        {"area": "a", "name": "n", "unit": "s", "value": None},
        {"area": "a", "name": "m", "unit": "s", "value": 2},
    ]
    assert figures(measures) == {("a", "m", "s"): 2.0}


@pytest.mark.usefixtures("starts_servers")
def test_a_commit_is_checked_out_beside_the_tree_and_gone_afterwards():
    shown = ["git", "-C", str(ROOT), "worktree", "list"]
    before = subprocess.run(shown, check=True, capture_output=True).stdout
    with checked_out("HEAD") as other:
        assert (other.root / "tests" / "bench" / "__main__.py").exists()
        assert ROOT not in other.root.parents
    assert not other.root.exists()
    assert subprocess.run(shown, check=True, capture_output=True).stdout == before
