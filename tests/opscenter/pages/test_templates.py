"""Templates: what may be missing breaks none of them."""

from __future__ import annotations

import re

from tests.centre import ROOT

# Django raises where a filter's argument does not resolve, and only there: `a.b` of None as a value
# is empty, as an argument it is an error 500.
_DEEP_ARGUMENT = re.compile(r"\|\w+:\w+\.\w+\.[\w.]+")


def test_no_filter_takes_an_attribute_of_something_that_may_be_missing():
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (ROOT / "templates").rglob("*.html")
        for match in _DEEP_ARGUMENT.finditer(path.read_text())
    }
    assert found == set()
