"""What the signs in Redis prove: a missing, old or future one proves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscenter.core.write_checks import DATABASE, HUB, METRIC_STORE, WriteCheck
from opscenter.monitoring.signs import Signs, unproven

NOW = 1_772_366_400.0  # 2026-03-01 12:00:00 UTC
PLACES = (DATABASE, METRIC_STORE, HUB)


def signs(*, age: float = 5, **heartbeats: float | None) -> Signs:
    """Return the signs of a centre that works, with other ages for some heartbeats."""
    ages = {"worker": age, "beat": age, "hub": age, **heartbeats}
    return Signs(
        {name: None if old is None else NOW - old for name, old in ages.items()},
        {place: WriteCheck(NOW - age, NOW - age) for place in PLACES},
    )


def with_writes(place: str, check: WriteCheck | None, **heartbeats: float | None) -> Signs:
    given = signs(**heartbeats)
    return replace(given, writes={**given.writes, place: check})


def test_when_all_show_life_everything_is_proven():
    assert unproven(signs(), NOW) == {}


def test_a_sign_from_the_future_proves_nothing():
    assert unproven(signs(hub=-7200), NOW) == {
        "hub": "its last heartbeat is 7200 s in the future: a clock was set back"
    }
    assert set(unproven(signs(age=-7200), NOW)) == {
        "worker", "beat", "hub", "database writes", "metric store writes",
    }  # fmt: skip


def test_a_silent_worker_is_to_blame_and_beat_is_not_known():
    assert unproven(signs(age=80, hub=5), NOW) == {
        "worker": "no heartbeat for 80 s",
        "beat": "not known without the worker",
        "database writes": "not known without the worker",
        "metric store writes": "not known without the worker",
        "hub": "has recorded nothing lately",
    }


def test_beat_is_not_blamed_in_the_moment_before_the_worker_is_late():
    found = unproven(signs(age=55, beat=62), NOW)
    assert found == {
        "worker": "no heartbeat for 55 s",
        "beat": "not known without the worker",
    }


def test_a_silent_beat_is_blamed_while_the_worker_shows_life():
    assert unproven(signs(beat=75), NOW) == {"beat": "no heartbeat for 75 s"}


def of_two(settings, **ages: float | None) -> dict[str, str]:
    settings.WORKER_PROCESSES = 2
    return unproven(signs(**{"up": 5, "worker-1": 5, "worker-2": 5, **ages}), NOW)


def test_the_one_of_two_workers_that_is_silent_is_named_and_not_the_other(settings):
    assert of_two(settings) == {}
    assert of_two(settings, **{"worker-1": 80}) == {"worker-1": "no heartbeat for 80 s"}


def test_without_the_supervisor_that_asks_each_worker_nobody_is_blamed(settings):
    unknown = "not known without its supervisor"
    assert of_two(settings, up=80, **{"worker-1": 80}) == {"worker-1": unknown}
    both = {"worker-1": 70, "worker-2": 65}
    assert of_two(settings, up=64, **both) == {"worker-1": unknown, "worker-2": unknown}
    assert of_two(settings, up=None, **both) == {"worker-1": unknown, "worker-2": unknown}


def test_workers_that_do_nothing_at_all_are_named_whoever_asks(settings):
    silent = {"worker": 80, "worker-1": 90, "worker-2": 80}
    found = of_two(settings, up=80, **silent)
    assert (found["worker-1"], found["worker-2"]) == (
        "no heartbeat for 90 s",
        "no heartbeat for 80 s",
    )


@pytest.mark.parametrize("place", [DATABASE, METRIC_STORE])
def test_a_place_that_takes_no_writes_is_named_with_since_when_and_why(place):
    check = WriteCheck(NOW - 3, NOW - 200, NOW - 180, "the disk is full")
    assert unproven(with_writes(place, check), NOW) == {
        f"{place} writes": "takes no writes since 11:57:00 UTC: the disk is full"
    }


def test_a_failure_of_another_day_is_named_with_its_day():
    check = WriteCheck(NOW - 3, None, NOW - 86_400, "it is locked by another process")
    assert unproven(with_writes(DATABASE, check), NOW)["database writes"] == (
        "takes no writes since 2026-02-28 12:00:00 UTC: it is locked by another process"
    )


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (None, "no write is proven yet"),
        (WriteCheck(NOW - 80, NOW - 80), "no write is proven for 80 s"),
        (WriteCheck(NOW + 7200, NOW + 7200), "no write is proven yet"),
    ],
)
def test_a_write_that_is_not_proven_lately_is_named(check, reason):
    assert unproven(with_writes(DATABASE, check), NOW) == {"database writes": reason}


def test_a_failure_that_nobody_checks_any_more_is_not_known():
    check = WriteCheck(NOW - 80, NOW - 200, NOW - 180, "the disk is full")
    found = unproven(with_writes(DATABASE, check, beat=80), NOW)
    assert found["database writes"] == "not known without beat"


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (None, "does not say whether it can record what its tunnels do"),
        (WriteCheck(NOW - 3, NOW - 75), "has recorded nothing lately"),
        (
            WriteCheck(NOW - 3, NOW - 75, NOW - 60, "the disk is full"),
            "cannot record what its tunnels do since 11:59:00 UTC: the disk is full",
        ),
    ],
)
def test_a_hub_that_lives_but_records_nothing_is_missing(check, reason):
    assert unproven(with_writes(HUB, check), NOW) == {"hub": reason}


TIMES = st.one_of(st.none(), st.floats(NOW - 300, NOW + 300))
CHECKS = st.one_of(
    st.none(), st.builds(WriteCheck, st.floats(NOW - 300, NOW + 300), TIMES, TIMES, st.just("full"))
)


@st.composite
def evidence(draw: Any) -> Signs:
    names = ("worker", "beat", "hub")
    return Signs({n: draw(TIMES) for n in names}, {p: draw(CHECKS) for p in PLACES})


def taken_away(one: Signs, name: str) -> Signs:
    return Signs(
        {n: None if n == name else at for n, at in one.heartbeats.items()},
        {p: None if p == name else check for p, check in one.writes.items()},
    )


@given(evidence(), st.sampled_from(["worker", "beat", "hub", *PLACES]))
def test_evidence_that_is_taken_away_never_lets_a_part_look_well(one, name):
    assert set(unproven(one, NOW)) <= set(unproven(taken_away(one, name), NOW))


@given(evidence(), st.floats(0, 600))
def test_evidence_of_good_writes_that_ages_never_lets_a_part_look_well(one, seconds):
    known = Signs(
        {n: None if at is None else min(at, NOW) for n, at in one.heartbeats.items()},
        {p: None if c is None else WriteCheck(NOW, NOW) for p, c in one.writes.items()},
    )
    assert set(unproven(known, NOW)) <= set(unproven(known, NOW + seconds))


@given(evidence(), st.sampled_from(["worker", "beat", "hub"]), st.floats(6, 1e6))
def test_a_heartbeat_that_is_moved_into_the_future_never_lets_a_part_look_well(one, name, ahead):
    moved = replace(one, heartbeats={**one.heartbeats, name: NOW + ahead})
    assert set(unproven(one, NOW)) <= set(unproven(moved, NOW))
