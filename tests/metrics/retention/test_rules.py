"""The bounds of retention, by value and for all inputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.retention.grace import (
    GRACE_SECONDS,
    EffectiveLimits,
    advance,
    reach_seconds,
    shortenings,
)
from metrics.retention.rules import (
    MAX_DAYS,
    bound,
    bounds,
    complete,
    every_limit,
    horizons,
    longest,
    problems,
)
from metrics.series.catalog import KINDS, TIERS, default_limits
from metrics.series.windows import DAY

NOW = 1_780_000_000
MOMENTS = st.integers(0, 4_000_000_000)
TRIPLES = st.lists(st.integers(1, MAX_DAYS), min_size=3, max_size=3).map(sorted)
LIMITS = st.fixed_dictionaries(
    {kind: TRIPLES.map(lambda days: dict(zip(TIERS, days, strict=True))) for kind in KINDS}
    | {"history": st.fixed_dictionaries({"days": st.integers(1, MAX_DAYS)})}
)


def changed(kind: str, **days: int):
    limits = default_limits()
    limits[kind] |= {tier.removeprefix("t"): value for tier, value in days.items()}
    return limits


def test_the_defaults_are_in_order():
    assert problems(default_limits()) == []
    assert default_limits()["pod"] == {"1m": 7, "10m": 90, "1h": 730}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (changed("pod", t1m=0), "pod 1m: use 1 to 3660 days"),
        (changed("node", t1h=3661), "node 1h: use 1 to 3660 days"),
        (changed("node", t1h="9"), "node 1h: use 1 to 3660 days"),
        (changed("node", t1h=True), "node 1h: use 1 to 3660 days"),
        (changed("pod", t5m=3), "pod 5m: there is no such tier"),
        (default_limits() | {"volume": {}}, "volume: there is no such kind"),
        (default_limits() | {"history": {"days": 0}}, "history: use 1 to 3660 days"),
        (default_limits() | {"history": {"1h": 9}}, "history: give days"),
        (default_limits() | {"history": 9}, "history: give days"),
        ({"pod": default_limits()["pod"]}, "cluster: give days for 1m, 10m, 1h"),
        (
            changed("pod", t1m=91),
            "pod 1m: 91 days are longer than the 90 days of 10m;"
            " keep a coarser tier at least as long as a finer one",
        ),
    ],
)
def test_limits_that_make_no_sense_are_named(limits, said):
    assert said in problems(limits)


@given(LIMITS)
def test_limits_in_order_have_no_problem_and_are_complete(limits):
    assert problems(limits) == []
    assert complete(limits) == limits
    assert shortenings(limits, limits) == []


def test_a_row_from_before_a_kind_existed_takes_the_defaults_for_it():
    limits = complete({"pod": {"1m": 3, "10m": 4, "1h": 5}})
    assert limits["pod"] == {"1m": 3, "10m": 4, "1h": 5}
    assert limits["node"] == default_limits()["node"]


def test_a_history_that_is_not_said_is_kept_two_years_or_as_long_as_the_longest_tier():
    without = {kind: days for kind, days in default_limits().items() if kind != "history"}
    assert problems(without) == []
    assert complete(without)["history"] == {"days": 730}
    longer = without | {"pod": {"1m": 7, "10m": 90, "1h": 3650}}
    assert complete(longer)["history"] == {"days": 3650}
    assert complete(longer, {"history": {"days": 5}})["history"] == {"days": 5}


@given(MOMENTS, st.integers(1, MAX_DAYS))
def test_a_bound_is_a_midnight_and_keeps_the_days_and_at_most_one_more(now, days):
    before = bound(now, days)
    assert before % DAY == 0
    assert before <= max(0, now - days * DAY)
    assert before > now - (days + 1) * DAY


@given(MOMENTS, MOMENTS, LIMITS)
def test_a_bound_never_moves_back_in_time(first, second, limits):
    first, second = sorted((first, second))
    early, late = bounds(limits, first), bounds(limits, second)
    assert all(early[kind][tier] <= late[kind][tier] for kind, tier in every_limit())


@given(MOMENTS, LIMITS)
def test_a_finer_tier_is_never_deleted_later_than_a_coarser_one(now, limits):
    for kind in KINDS:
        tiers = bounds(limits, now)[kind]
        assert tiers["1m"] >= tiers["10m"] >= tiers["1h"]


@given(LIMITS, MOMENTS)
def test_a_cluster_never_looked_at_has_what_is_wanted_at_once(wanted, now):
    assert advance(None, wanted, now) == EffectiveLimits(wanted, wanted)


@given(LIMITS, LIMITS, MOMENTS)
def test_longer_limits_hold_at_once_and_shorter_ones_after_the_grace(old, new, now):
    start = advance(None, old, now)
    at_once = advance(start, new, now)
    assert at_once.limits == longest((old, new))
    assert at_once.wanted == new
    assert (at_once.due_at is None) == (not shortenings(old, new))
    just_before = advance(at_once, new, now + GRACE_SECONDS - 1)
    assert just_before == at_once
    assert advance(just_before, new, now + GRACE_SECONDS).limits == new


@given(LIMITS, LIMITS, st.integers(0, GRACE_SECONDS - 1), MOMENTS)
def test_a_change_taken_back_within_the_grace_costs_nothing(old, new, later, now):
    effective = advance(advance(None, old, now), new, now)
    back = advance(effective, old, now + later)
    assert not shortenings(old, back.limits)
    assert advance(back, old, now + later + GRACE_SECONDS).limits == old


@given(LIMITS, st.lists(st.tuples(st.integers(0, 3 * DAY), LIMITS), max_size=6), MOMENTS)
def test_nothing_gets_shorter_that_was_not_wanted_shorter_for_the_whole_grace(old, changes, now):
    effective, seen = advance(None, old, now), [(now, old)]
    for wait, wanted in changes:
        now += wait
        # As every run does: what was wanted until now is looked at before what is wanted next.
        effective = advance(effective, effective.wanted, now)
        effective = advance(effective, wanted, now)
        seen.append((now, wanted))
        recent = [one for at, one in seen if at > now - GRACE_SECONDS] + [
            [one for at, one in seen if at <= now - GRACE_SECONDS][-1]
            if any(at <= now - GRACE_SECONDS for at, _ in seen)
            else old
        ]
        for kind, tier in every_limit():
            assert effective.limits[kind][tier] >= min(one[kind][tier] for one in recent)
            assert effective.limits[kind][tier] >= wanted[kind][tier]


def test_wanting_still_less_starts_the_grace_anew():
    old, less, least = changed("pod"), changed("pod", t1m=5), changed("pod", t1m=2)
    effective = advance(advance(None, old, NOW), less, NOW)
    effective = advance(effective, least, NOW + DAY // 2)
    assert advance(effective, least, NOW + DAY).limits == old
    assert advance(effective, least, NOW + DAY + DAY // 2).limits == least


def test_a_longer_limit_does_not_reach_back_before_what_the_shorter_one_deleted():
    short, long = changed("pod"), changed("pod", t1m=90)
    gone = horizons(None, bounds(short, NOW))
    effective = advance(EffectiveLimits(short, short, None, gone), long, NOW)
    assert reach_seconds(effective, "pod", NOW)["1m"] == NOW - bound(NOW, 7) < 8 * DAY
    later = NOW + 40 * DAY
    assert reach_seconds(effective, "pod", later)["1m"] == later - bound(NOW, 7)
    assert reach_seconds(effective, "pod", NOW + 200 * DAY)["1m"] == 90 * DAY


@given(LIMITS, MOMENTS)
def test_a_tier_that_lost_nothing_reaches_back_as_long_as_it_is_kept(limits, now):
    for kind in KINDS:
        kept = reach_seconds(EffectiveLimits(limits, limits), kind, now)
        assert kept == {tier: min(now, days * DAY) for tier, days in limits[kind].items()}


@given(LIMITS, LIMITS, MOMENTS, MOMENTS)
def test_horizons_only_move_forward(first, second, one, two):
    once = horizons(None, bounds(first, one))
    twice = horizons(once, bounds(second, two))
    assert all(twice[kind][tier] >= once[kind][tier] for kind, tier in every_limit())
