"""Runs of the ledger: adjacent equal windows are one row, and none is lost."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from metrics.series.windows import Window
from opscenter.pages.ledger import runs

_GAP = Window(600, 1200, "gap", 3, 10, 1, "tunnel_down", "cut", None)


def test_adjacent_windows_with_the_same_content_are_one_run():
    newest = [replace(_GAP, start=at, end=at + 600, attempts=at // 600) for at in (1800, 1200, 600)]
    (run,) = runs(newest)
    assert (run.start, run.end, run.seconds) == (600, 2400, 1800)
    assert (run.got, run.expected, run.attempts, run.filled_at) == (9, 30, 3, None)
    assert run.why == "the tunnel was down (to be filled)"
    assert len(runs(newest, fold=False)) == 3


def test_another_state_reason_detail_or_a_pause_between_them_ends_a_run():
    newer = replace(_GAP, start=1200, end=1800)
    others = [
        replace(_GAP, state="lost"), replace(_GAP, reason="service_down"),
        replace(_GAP, detail="else"), replace(_GAP, filled_at=5000), replace(_GAP, end=1140),
    ]  # fmt: skip
    for older in others:
        assert len(runs([newer, older])) == 2, older


@given(st.lists(st.tuples(st.sampled_from(["gap", "lost"]), st.booleans()), max_size=30))
def test_runs_keep_every_window_in_its_order(steps):
    windows = []
    at = 60_000
    for state, hole in steps:
        at -= 120 if hole else 60
        windows.append(replace(_GAP, start=at, end=at + 60, state=state))
    found = runs(windows)
    assert [window for run in found for window in run.windows] == windows
    assert sum(run.got for run in found) == 3 * len(windows)
