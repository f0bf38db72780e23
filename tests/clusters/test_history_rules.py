"""What a filled gap changes in the rows of the history."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from clusters.history_rules import Evidence, Room, Row, correct_findings, correct_states
from tests.factories import NOW

KEY = "node:n3"


def at(minutes: float):
    return NOW + timedelta(minutes=minutes)


LATER = at(500)


def row(level, began, ended=None, ending="", *, key=KEY, known=None, at_least=False, pk=1):
    known = known if known is not None else began + 3
    return Row(
        pk, key, level, "stored", at(began), at(known), at_least,
        None if ended is None else at(ended), None if ended is None else at(ended + 3), ending,
    )  # fmt: skip


def state(level, began, ended=None, ending="changed", **more):
    return row(level, began, ended, ending if ended is not None else "", key="state", **more)


def bad(start, end, level="degraded"):
    return Evidence(KEY, level, at(start), at(end), "found")


def well(start, end):
    return Evidence(KEY, "", at(start), at(end))


def findings(rows, told, room=100):
    return correct_findings(rows, told, Room(room), LATER)


def spans(rows):
    return [
        (r.level, (r.began_at - NOW) / timedelta(minutes=1),
         None if r.ended_at is None else (r.ended_at - NOW) / timedelta(minutes=1), r.ending)
        for r in sorted(rows, key=lambda r: (r.began_at, r.ended_at or LATER))
    ]  # fmt: skip


def test_the_beginning_of_a_closed_row_moves_back_to_where_its_node_failed():
    closed = row("degraded", 60, 70, "over", at_least=True)
    (moved,), proven = findings([closed], [well(10, 40), bad(40, 60)])
    assert spans([moved]) == [("degraded", 40, 70, "over")]
    assert (moved.began_known_at, moved.ended_known_at) == (at(63), at(73))
    assert not moved.began_at_least
    assert [(one.start, one.end) for one in proven] == [(at(40), at(60))]


def test_a_row_that_nobody_saw_end_ends_where_its_node_was_well_again():
    lost = row("degraded", 0, 10, "unknown")
    (moved,), _ = findings([lost], [bad(10, 25), well(25, 60)])
    assert spans([moved]) == [("degraded", 0, 25, "over")]
    assert moved.ended_known_at == at(13)


def test_a_row_that_nobody_saw_end_may_have_ended_before_it_was_out_of_sight():
    (moved,), _ = findings([row("degraded", 0, 10, "unknown")], [bad(5, 8), well(8, 60)])
    assert spans([moved]) == [("degraded", 0, 8, "over")]


def test_where_the_minutes_end_it_is_not_known_how_it_went_on():
    (moved,), _ = findings([row("degraded", 0, 10, "unknown")], [bad(10, 25)])
    assert spans([moved]) == [("degraded", 0, 25, "unknown")]
    (kept,), proven = findings([row("degraded", 0, 10, "unknown")], [well(20, 60)])
    assert (spans([kept]), proven) == ([("degraded", 0, 10, "unknown")], [])


def test_what_began_and_ended_out_of_sight_becomes_a_row_that_is_known_now():
    (made,), proven = findings([], [well(0, 20), bad(20, 30), well(30, 60)])
    assert spans([made]) == [("degraded", 20, 30, "over")]
    assert (made.pk, made.text, made.began_at_least) == (None, "found", False)
    assert made.began_known_at == made.ended_known_at == LATER
    assert proven == [bad(20, 30)]


def test_two_rows_that_the_gap_was_between_meet_and_both_stay():
    rows = [
        row("degraded", 0, 10, "unknown", pk=1),
        row("degraded", 60, 70, "over", at_least=True, pk=2),
    ]
    told, _ = findings(rows, [bad(10, 60)])
    assert spans(told) == [("degraded", 0, 10, "changed"), ("degraded", 10, 70, "over")]
    assert not told[1].began_at_least


def test_a_good_minute_keeps_a_row_from_reaching_back():
    rows = [row("degraded", 60, 70, "over", at_least=True)]
    told, _ = findings(rows, [bad(40, 59), well(59, 60)])
    assert spans(told) == [("degraded", 40, 59, "over"), ("degraded", 60, 70, "over")]
    assert not told[1].began_at_least


def test_a_row_that_was_over_does_not_go_on():
    told, _ = findings([row("degraded", 0, 10, "over")], [bad(11, 20), well(20, 21)])
    assert spans(told) == [("degraded", 0, 10, "over"), ("degraded", 11, 20, "over")]


def test_another_level_is_a_row_of_its_own():
    rows = [row("critical", 60, 70, "over", at_least=True)]
    told, _ = findings(rows, [well(0, 30), bad(30, 50), bad(50, 60, "critical")])
    assert spans(told) == [("degraded", 30, 50, "changed"), ("critical", 50, 70, "over")]


def test_an_open_row_moves_back_too():
    (moved,), _ = findings([row("degraded", 60, at_least=True)], [bad(50, 60)])
    assert spans([moved]) == [("degraded", 50, None, "")]
    assert moved.began_at_least


def test_what_finds_no_room_is_counted_and_proves_nothing():
    room = Room(1)
    told, proven = correct_findings([], [bad(0, 5), bad(10, 15), bad(20, 25)], room, LATER)
    assert (len(told), len(proven), room.left_out) == (1, 1, 2)


def states(rows, proven, room=100):
    return correct_states(rows, proven, Room(room), LATER)


OUTAGE = [
    state("ok", 0, 10, "unknown", pk=1),
    state("unknown", 10, 60, pk=2),
    state("ok", 60, pk=3),
]


def test_a_time_that_was_unknown_becomes_as_bad_as_it_was_found_to_be():
    told = states(OUTAGE, [bad(20, 30)])
    assert spans(told) == [
        ("ok", 0, 10, "unknown"), ("unknown", 10, 20, "changed"),
        ("degraded", 20, 30, "unknown"), ("unknown", 30, 60, "changed"), ("ok", 60, None, ""),
    ]  # fmt: skip
    first, made, second = told[1:4]
    assert (first.pk, second.pk, made.pk) == (2, None, None)
    assert first.began_known_at == second.began_known_at == at(13)
    assert made.began_known_at == LATER


def test_a_time_that_was_unknown_never_becomes_ok():
    assert states(OUTAGE, []) == OUTAGE


def test_the_state_before_goes_on_and_the_one_after_begins_earlier():
    rows = [
        state("degraded", 0, 10, "unknown", pk=1),
        state("unknown", 10, 60, pk=2),
        state("degraded", 60, 70, pk=3),
        state("ok", 70, pk=4),
    ]
    told = states(rows, [bad(10, 20), bad(50, 60)])
    assert spans(told) == [
        ("degraded", 0, 20, "unknown"), ("unknown", 20, 50, "changed"),
        ("degraded", 50, 70, "changed"), ("ok", 70, None, ""),
    ]  # fmt: skip
    assert [(r.pk, r.began_known_at) for r in told] == [(r.pk, r.began_known_at) for r in rows]


def test_a_state_of_which_nothing_is_left_keeps_when_it_was_known():
    rows = [
        state("degraded", 0, 10, "unknown", pk=1),
        state("unknown", 10, 60, pk=2),
        state("degraded", 60, pk=3),
    ]
    told = states(rows, [bad(10, 60)])
    assert spans(told) == [
        ("degraded", 0, 60, "changed"), ("unknown", 60, 60, "changed"), ("degraded", 60, None, ""),
    ]  # fmt: skip
    assert told[1].began_known_at == at(13)


def test_an_open_state_is_cut_where_something_was_off_and_stays_open():
    told = states([state("ok", 0, pk=7)], [bad(20, 30)])
    assert spans(told) == [
        ("ok", 0, 20, "changed"), ("degraded", 20, 30, "changed"), ("ok", 30, None, ""),
    ]  # fmt: skip
    assert [r.pk for r in told] == [None, None, 7]
    assert told[0].ended_known_at == LATER


def test_what_is_so_now_is_not_judged_by_a_gap():
    rows = [state("ok", 20)]
    assert states(rows, [Evidence(KEY, "degraded", at(0), at(30), "x")])[-1].level == "ok"


def test_worse_is_not_made_better_and_a_revoked_cluster_stays_so():
    for level in ("critical", "degraded", "revoked", "pending"):
        rows = [state(level, 0, 60)]
        assert states(rows, [bad(10, 20)]) == rows


def test_a_state_that_would_need_more_rows_than_there_is_room_for_stays():
    room = Room(1)
    assert correct_states(OUTAGE, [bad(20, 30)], room, LATER) == OUTAGE
    assert (room.rows, room.left_out) == (1, 1)


SPANS = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(1, 20), st.sampled_from(["", "degraded", "critical"])
    ),
    max_size=6,
)


def evidence(told):
    """Return evidence in which no two overlap, as minutes are."""
    found, last = [], -1
    for start, length, level in sorted(told):
        if start >= last:
            found.append(Evidence(KEY, level, at(start), at(start + length), "x"))
            last = start + length
    return found


@given(rows=SPANS, told=SPANS)
def test_rows_never_overlap_whatever_is_told_and_telling_it_again_changes_nothing(rows, told):
    stored, last = [], -1
    for number, (start, length, level) in enumerate(sorted(rows)):
        if start >= last:
            ending = "over" if length % 2 else "unknown"
            stored.append(
                row(
                    level or "degraded",
                    start,
                    start + length,
                    ending,
                    pk=number,
                    at_least=start % 2,
                )
            )
            last = start + length
    once, proven = findings(stored, evidence(told))
    assert all(a.ended_at <= b.began_at for a, b in pairwise(once))
    assert all(r.began_at <= r.ended_at for r in once)
    assert {r.pk for r in once} >= {r.pk for r in stored}
    twice, again = findings(once, evidence(told))
    assert (spans(twice), again) == (spans(once), [])
    before = [state("ok", 0, 30, pk=1), state("unknown", 30, 90, pk=2)]
    after = sorted(states(before, proven), key=lambda r: (r.began_at, r.ended_at))
    assert all(a.ended_at <= b.began_at for a, b in pairwise(after))
    assert (after[0].began_at, after[-1].ended_at) == (at(0), at(90))
    known = {r.pk: (r.began_known_at, r.ended_known_at) for r in before}
    assert {r.pk: (r.began_known_at, r.ended_known_at) for r in after if r.pk} == known
