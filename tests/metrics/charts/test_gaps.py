"""What of a gap a chart shades."""

from __future__ import annotations

import pytest

from metrics.charts.gaps import without_values
from metrics.query import Gap

GAP = Gap(600, 1200, "gap", "tunnel_down", "")


def spans(gaps: list[Gap]) -> list[tuple[int, int]]:
    return [(gap.start, gap.end) for gap in gaps]


@pytest.mark.parametrize(
    ("minutes", "shaded"),
    [
        ([], [(600, 1200)]),
        ([540, 1200], [(600, 1200)]),
        ([600, 660, 720], [(780, 1200)]),
        ([1140], [(600, 1140)]),
        ([840], [(600, 840), (900, 1200)]),
        (list(range(600, 1200, 60)), []),
    ],
)
def test_only_the_minutes_without_a_value_are_shaded(minutes, shaded):
    assert spans(without_values([GAP], dict.fromkeys(minutes, 1), 60)) == shaded


def test_a_gap_stays_in_a_wide_bucket_that_has_room_for_it():
    half = {600: 5, 1200: 10}
    inside = Gap(900, 1200, "lost", "agent_stopped", "")
    assert spans(without_values([inside], half, 600)) == [(900, 1200)]
    assert spans(without_values([GAP], half, 600)) == []


def test_gaps_of_two_reasons_stay_apart_and_share_the_room_of_a_bucket():
    lost = Gap(1200, 1500, "lost", "spool_expired", "")
    assert spans(without_values([GAP, lost], {}, 3600)) == [(600, 1200), (1200, 1500)]
    assert spans(without_values([GAP, lost], {0: 50}, 3600)) == []


def test_a_gap_may_begin_and_end_inside_a_bucket():
    odd = Gap(660, 2460, "gap", "tunnel_down", "")
    assert spans(without_values([odd], {600: 1, 1200: 10, 2400: 9}, 600)) == [
        (660, 1200), (1800, 2460)
    ]  # fmt: skip
