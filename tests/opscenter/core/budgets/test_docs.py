"""docs/limits.md lists every budget of the product."""

from __future__ import annotations

import re
from pathlib import Path

from opscenter.core.budgets import all_budgets

ROOT = Path(__file__).parents[4]
_DEFINITION = re.compile(r"\b(?:Slots|Rate|LocalRate)\(\s*\"([a-z0-9_]+)\"")


def defined() -> set[str]:
    """Return the names of all budgets that the code defines, wherever it is loaded."""
    files = [
        path for app in ("opscenter", "clusters", "metrics") for path in (ROOT / app).rglob("*.py")
    ]
    return {name for path in files for name in _DEFINITION.findall(path.read_text())}


def test_every_budget_is_in_the_document() -> None:
    text = (ROOT / "docs/limits.md").read_text()
    listed = set(re.findall(r"^\| `([a-z0-9_]+)` \|", text, re.MULTILINE))

    assert listed == defined()


def test_no_budget_is_defined_in_a_way_that_this_does_not_find() -> None:
    ours = {name for name in all_budgets() if not name.startswith("test_")}

    assert ours <= defined()
