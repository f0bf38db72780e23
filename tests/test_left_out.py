"""Which test files are not read, as ``-m`` leaves out all that they hold."""

from __future__ import annotations

import pytest

from tests.left_out import holds_none

WHOLE = "pytestmark = [pytest.mark.e2e, pytest.mark.django_db]\n"
ONE = "@pytest.mark.e2e\ndef test_one(): ...\ndef test_other(): ...\n"
PLAIN = "def test_one(): ...\n"
MANY = "import schemathesis\n\ndef test_one(): ...\n"


@pytest.mark.parametrize(
    ("expression", "left_out"),
    [
        ("quick", {WHOLE, MANY}),
        ("not (e2e or browser)", {WHOLE}),
        ("e2e or browser", {PLAIN, MANY}),
        ("e2e", set()),
        ("", set()),
    ],
)
def test_a_file_is_left_out_only_where_none_of_its_tests_can_be_chosen(expression, left_out):
    assert {text for text in (WHOLE, ONE, PLAIN, MANY) if holds_none(expression, text)} == left_out
