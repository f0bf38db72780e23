"""The check of line length that ``make lint`` runs."""

from __future__ import annotations

import pytest

from tests.line_length import LIMIT, long_lines


@pytest.mark.parametrize("name", ["static/css/a.css", "static/js/a.js", "templates/parts/a.html"])
def test_a_line_that_is_too_long_is_named(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(("short", "x" * (LIMIT + 1))))
    assert list(long_lines(tmp_path)) == [f"{name}:2: {LIMIT + 1} characters, over {LIMIT}"]


def test_characters_are_counted_not_bytes(tmp_path):
    path = tmp_path / "templates/a.html"
    path.parent.mkdir()
    path.write_text("…" * LIMIT, encoding="utf-8")
    assert list(long_lines(tmp_path)) == []
