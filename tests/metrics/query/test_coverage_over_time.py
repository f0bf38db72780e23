"""What coverage and heat strips tell of each moment, and of damage in the store."""

from __future__ import annotations

import pytest

from metrics import query
from metrics.query import SeriesKey
from metrics.query.answers import Gap
from metrics.query.coverage_strip import with_damage
from metrics.series.rows import Cell
from tests.metrics.query.stored import NOW, minutes, write
from tests.metrics.stores.contract import NODE, T0, window

pytestmark = pytest.mark.django_db


def test_a_heat_strip_has_one_grid_for_all_series(cluster):
    other = SeriesKey("node", "", "n0")
    write(
        cluster,
        [*minutes(NODE, T0, 20, cpu_mc=10), *minutes(other, T0 + 600, 5, cpu_mc=Cell(2, 8, 3, 5))],
    )
    answer = query.heat(cluster, "node", "cpu_mc", T0, T0 + 1800, 3, now=NOW)
    assert (answer.t, answer.step, answer.unit) == ((T0, T0 + 600, T0 + 1200), 600, "millicores")
    assert [(r.key.name, r.mean, r.max) for r in answer.rows] == [
        ("n0", (None, 4, None), (None, 5, None)),
        ("n1", (10, 10, None), (10, 10, None)),
    ]


def test_minutes_that_are_not_due_yet_are_no_lack_of_coverage(cluster):
    write(cluster, windows=[window(T0, T0 + 600)], head=T0 + 600)
    *_, fresh = query.coverage(cluster, T0, T0 + 9999, now=T0 + 720)
    assert (fresh.state, fresh.end, fresh.expected) == ("pending", T0 + 720, 0)
    *_, old = query.coverage(cluster, T0, T0 + 9999, now=T0 + 1200)
    assert (old.state, old.end, old.expected) == ("pending", T0 + 1200, 10)


def test_coverage_tells_of_every_moment(cluster):
    write(
        cluster,
        windows=[
            window(T0, T0 + 600),
            window(T0 + 600, T0 + 1200),
            window(T0 + 1200, T0 + 1800, filled_at=T0 + 9000, reason="tunnel_down"),
            window(T0 + 2400, T0 + 3000, "lost", reason="spool_expired", got=4),
        ],
        head=T0 + 3000,
    )
    found = query.coverage(cluster, T0 - 600, T0 + 9999, now=T0 + 3600)
    assert [(s.start - T0, s.end - T0, s.state, s.reason) for s in found] == [
        (-600, 0, "none", ""),
        (0, 1200, "done", ""),
        (1200, 1800, "done", "tunnel_down"),
        (1800, 2400, "none", ""),
        (2400, 3000, "lost", "spool_expired"),
        (3000, 3600, "pending", "pending"),
    ]
    assert [(s.got, s.expected, s.filled) for s in found[1:3]] == [(20, 20, False), (10, 10, True)]
    clipped = query.coverage(cluster, T0 + 2700, T0 + 2760, now=T0 + 3600)
    assert [(s.got, s.expected) for s in clipped] == [(0, 1)]
    assert [w.start for w in query.windows(cluster, T0, T0 + 3600, states=["lost"])] == [T0 + 2400]
    assert query.position(cluster).head == T0 + 3000


def test_what_is_damaged_is_told_outside_of_the_gaps_of_the_ledger():
    gaps = [Gap(10, 20, "gap", "tunnel_down", ""), Gap(30, 40, "lost", "agent_stopped", "")]

    def told(damaged, first=0, last=100):
        found = with_damage(gaps, damaged, first, last)
        assert [gap for gap in found if gap.reason != "store_damaged"] == gaps
        assert list(found) == sorted(found, key=lambda gap: gap.start)
        return [(gap.start, gap.end) for gap in found if gap.reason == "store_damaged"]

    assert told([]) == told([(10, 20)]) == told([(12, 18)]) == []
    assert told([(0, 5), (20, 30), (40, 50)]) == [(0, 5), (20, 30), (40, 50)]
    assert told([(0, 50)]) == [(0, 10), (20, 30), (40, 50)]
    assert told([(15, 35)]) == [(20, 30)]
    assert told([(0, 50)], first=5, last=25) == [(5, 10), (20, 25)]
    assert told([(0, 8)], first=9) == told([(60, 70)], last=50) == []
