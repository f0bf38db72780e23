"""How many minutes of a coverage strip are due."""

from __future__ import annotations

import pytest

from metrics.query.coverage_strip import minutes_due, segments
from tests.metrics.stores.contract import window

HOUR = [window(0, 3600, "done", got=60, expected=60)]
AFTER_A_GAP = [
    window(0, 1800, "done", got=30, expected=30),
    window(1800, 3600, "gap", reason="tunnel_down", got=0, expected=30),
]


@pytest.mark.parametrize(
    ("ledger", "born", "gone", "until", "due"),
    [
        (HOUR, 0, None, 6000, 60 + 40),
        (HOUR, None, None, 6000, 0),
        (HOUR, 1200, None, 3600, 40),
        (HOUR, 0, 600, 6000, 10),
        (HOUR, 6000, None, 6000, 0),
        (HOUR, 0, -60, 6000, 0),
        ([], 0, None, 6000, 0),
        (AFTER_A_GAP, 0, None, 3600, 60),
        (AFTER_A_GAP, 3600, None, 3600, 30),  # it may have lived in the gap before its first minute
        (AFTER_A_GAP, 1200, None, 3600, 40),
    ],
)
def test_a_series_is_due_while_it_lives_and_where_it_may_have_lived(ledger, born, gone, until, due):
    strip = segments(ledger, 0, 6000, head=3600, until=until)
    assert minutes_due(strip, born=born, gone=gone) == due
