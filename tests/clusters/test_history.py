"""Reading the history: parts of a strip, cells of an hour, and what is not recorded."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.health import WORST_FIRST, Health
from clusters.history import (
    RecordedState,
    StatePart,
    events_of,
    seconds_by_state,
    state_parts,
    states_of,
    worst_cells,
)
from clusters.models import ClusterEvent
from tests.factories import NOW, ClusterFactory

T0 = int(NOW.timestamp())
OK = Health("ok", NOW)


def test_what_is_not_recorded_has_no_state():
    rows = [RecordedState("ok", T0 + 60, T0 + 120), RecordedState("ok", T0 + 300, None)]
    assert state_parts(rows, T0, T0 + 600, OK, T0 + 600) == [
        StatePart(T0, T0 + 60, ""),
        StatePart(T0 + 60, T0 + 120, "ok"),
        StatePart(T0 + 120, T0 + 300, ""),
        StatePart(T0 + 300, T0 + 600, "ok"),
    ]


def test_an_open_row_holds_no_longer_than_the_judgement_of_now():
    lost = Health("unknown", NOW + timedelta(seconds=200), "ok")
    parts = state_parts([RecordedState("ok", T0, None)], T0, T0 + 600, lost, T0 + 600)
    assert parts == [StatePart(T0, T0 + 200, "ok"), StatePart(T0 + 200, T0 + 600, "unknown")]


def test_without_any_row_only_the_state_of_now_is_known():
    since = Health("degraded", NOW + timedelta(seconds=60))
    parts = state_parts([], T0, T0 + 120, since, T0 + 120)
    assert [part.state for part in parts] == ["", "degraded"]
    assert state_parts([], T0, T0 + 120, Health("pending"), T0 + 120)[0].state == ""


def test_an_hour_shows_its_worst_state():
    parts = [
        StatePart(T0, T0 + 3500, "ok"),
        StatePart(T0 + 3500, T0 + 3700, "critical"),
        StatePart(T0 + 3700, T0 + 7200, "unknown"),
        StatePart(T0 + 7200, T0 + 9000, ""),
    ]
    cells = worst_cells(parts, T0, T0 + 9000, 3600)
    assert [cell.state for cell in cells] == ["critical", "critical", ""]
    assert cells[-1].end == T0 + 9000


ROWS = st.lists(st.tuples(st.sampled_from(WORST_FIRST), st.integers(0, 90), st.integers(0, 90)))


@given(ROWS, st.sampled_from(WORST_FIRST), st.integers(0, 400))
def test_parts_cover_the_span_once(steps, state, since):
    rows, t = [], T0
    for level, gap, length in steps:
        rows.append(RecordedState(level, t + gap, t + gap + length))
        t += gap + length
    if rows:
        rows[-1] = RecordedState(rows[-1].state, rows[-1].start, None)
    health = Health(state, NOW + timedelta(seconds=since))
    parts = state_parts(rows, T0, T0 + 400, health, T0 + 400)
    assert (parts[0].start, parts[-1].end) == (T0, T0 + 400)
    assert all(a.end == b.start for a, b in pairwise(parts))
    assert sum(seconds_by_state(parts).values()) == 400
    cells = worst_cells(parts, T0, T0 + 400, 60)
    assert sum(cell.seconds for cell in cells) == 400


@pytest.mark.django_db
def test_states_of_many_clusters_are_one_query(django_assert_num_queries):
    clusters = [ClusterFactory() for _ in range(3)]
    for one in clusters[:2]:
        ClusterEvent.objects.create(
            cluster=one, key="state", level="ok", began_at=NOW, began_known_at=NOW
        )
    with django_assert_num_queries(1):
        found = states_of([one.pk for one in clusters], T0 - 60, T0 + 60)
    assert [len(found[one.pk]) for one in clusters] == [1, 1, 0]


@pytest.mark.django_db
def test_a_span_has_what_overlaps_it_newest_first():
    cluster = ClusterFactory()
    for n, (began, ended) in enumerate([(0, 10), (10, 20), (20, None)]):
        ClusterEvent.objects.create(
            cluster=cluster, key=f"node:{n}", level="degraded", began_known_at=NOW,
            began_at=NOW + timedelta(minutes=began),
            ended_at=None if ended is None else NOW + timedelta(minutes=ended),
        )  # fmt: skip

    def keys(start, end, key=""):
        found = events_of(cluster, NOW + timedelta(minutes=start), NOW + timedelta(minutes=end))
        return [row.key for row in found]

    assert keys(0, 99) == ["node:2", "node:1", "node:0"]
    assert keys(10, 20) == ["node:1"]
    assert [row.key for row in events_of(cluster, key="node:1")] == ["node:1"]
