"""Files whose tests ``-m`` leaves out anyway are not even read.

Reading all of them takes each process of a run some ten seconds: half the project is imported, and
schemathesis works out its requests. A file says by its text what it may hold: the markers of whole
systems and browsers, and schemathesis. It counts only for the three expressions that
``tests/run.py`` uses; with any other everything is read.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_SLOW = re.compile(r"\bmark\.(e2e|browser)\b")
_MODULE_SLOW = re.compile(r"^pytestmark = .*\bmark\.(e2e|browser)\b", re.MULTILINE)
_SCHEMATHESIS = re.compile(r"^import schemathesis$", re.MULTILINE)


def holds_none(expression: str, text: str) -> bool:
    """Return whether no test of a file can be chosen.

    Args:
        expression: of ``-m``.
        text: of the file.
    """
    match expression:
        case "quick":
            return bool(_MODULE_SLOW.search(text) or _SCHEMATHESIS.search(text))
        case "not (e2e or browser)":
            return bool(_MODULE_SLOW.search(text))
        case "e2e or browser":
            return not _SLOW.search(text)
    return False


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a test file without a test that can be chosen; None leaves it to others."""
    name = collection_path.name
    if not (name.startswith("test_") and name.endswith(".py") and collection_path.is_file()):
        return None
    text = collection_path.read_text(encoding="utf-8")
    return True if holds_none(config.option.markexpr, text) else None
