"""The health rules, by value and by property. Pure: no database."""

from __future__ import annotations

import typing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters import health
from clusters.conditions import Condition, What
from clusters.health import LARGEST_SKEW_MS, WORST_FIRST, Facts, Health, judge, tunnel_state
from clusters.health_facts import UNSEEN_ENDS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=2)
OK = Health("ok", EARLIER)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def facts(**changes) -> Facts:
    fresh = Facts(
        status="active", interval_seconds=60, enrolled_at=EARLIER, tunnel_up=True,
        tunnel_since=EARLIER, tunnel_seen_at=ago(5), data_as_of=ago(40), last_pull_at=ago(10),
        nodes_ready=3, nodes_total=3, mem_ws=10, mem_cap=100, fs_worst_ratio=0.5,
        fs_worst_name="n1 /", inodes_worst_ratio=0.1, inodes_worst_name="n1 /",
    )  # fmt: skip
    return replace(fresh, **changes)


def test_fresh_data_of_healthy_nodes_is_ok():
    assert judge(facts(), OK, NOW) == Health("ok", EARLIER, "", "all 3 nodes are ready")


def test_a_new_state_is_dated_by_its_evidence_not_by_the_moment_of_judging():
    judged = judge(facts(nodes_ready=2, nodes_not_ready=["n3"]), OK, NOW)
    assert judged == Health("degraded", ago(40), "", "1 of 3 nodes is not ready: n3")
    again = judge(facts(nodes_ready=2, nodes_not_ready=["n3"], data_as_of=NOW), judged, NOW)
    assert again.since == ago(40)


def test_a_state_is_since_the_oldest_of_its_worst_findings_each_with_its_own():
    first = Condition(what="not_ready", node="n2", since=ago(600))
    second = Condition(what="not_ready", node="n3", since=ago(60), at_least=True)
    fuller = Condition(what="filesystem", node="n1", name="/", ratio=0.95, since=ago(9000))
    both = facts(nodes_ready=1, nodes_total=4, conditions=[first, second], nodes_unknown=0)
    judged = judge(replace(both, nodes_ready=2), OK, NOW)
    assert (judged.state, judged.since, judged.at_least) == ("degraded", ago(600), False)
    only = judge(replace(both, nodes_ready=3, conditions=[second]), judged, NOW)
    assert (only.since, only.at_least) == (ago(60), True)
    worse = judge(replace(both, nodes_ready=2, conditions=[first, second, fuller]), judged, NOW)
    assert (worse.state, worse.since) == ("critical", ago(9000))
    assert [one.key for one in worse.findings] == ["filesystem:n1:/", "node:n2", "node:n3"]


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"nodes_ready": 1, "nodes_not_ready": ["a", "b"]}, "critical", "2 of 3 nodes"),
        ({"nodes_total": 1, "nodes_ready": 0, "nodes_not_ready": ["a"]}, "critical", "only node"),
        ({"nodes_total": 4, "nodes_ready": 2}, "degraded", "2 of 4 nodes are not ready"),
        ({"nodes_total": 0, "nodes_ready": 0}, "degraded", "no nodes"),
        ({"fs_worst_ratio": 0.79}, "ok", ""),
        ({"fs_worst_ratio": 0.80}, "degraded", "/ on node n1 is 80 % full"),
        ({"fs_worst_ratio": 0.8999}, "degraded", "89 %"),
        ({"fs_worst_ratio": 0.90}, "critical", "/ on node n1 is 90 % full"),
        ({"inodes_worst_ratio": 0.90}, "degraded", "90 % of inodes used on / of node n1"),
        ({"inodes_worst_ratio": 0.95}, "critical", "95 % of inodes"),
        ({"mem_ws": 90}, "degraded", "90 % of memory in use"),
        ({"mem_ws": 89}, "ok", ""),
        ({"conflict_at": ago(3599), "conflict_detail": "two hosts"}, "degraded", "two hosts"),
        ({"conflict_at": ago(3601)}, "ok", ""),
        ({"fs_worst_ratio": None, "inodes_worst_ratio": None, "mem_ws": None}, "ok", ""),
        ({"nodes_ready": None, "nodes_total": None}, "unknown", "nothing is known of its nodes"),
        ({"nodes_ready": 2, "nodes_unknown": 1}, "unknown", "not known whether 1 of 3 nodes is"),
        ({"clock_skew_ms": 61_000}, "degraded", "its clock is 61 s ahead"),
    ],
)
def test_fresh_facts_are_judged_by_the_documented_limits(changes, state, words):
    judged = judge(facts(**changes), OK, NOW)
    assert judged.state == state
    assert words in judged.reason


def test_the_worst_finding_is_named_first_and_none_is_left_out():
    judged = judge(facts(nodes_ready=2, fs_worst_ratio=0.97), OK, NOW)
    assert judged.state == "critical"
    assert judged.reason == "/ on node n1 is 97 % full; 1 of 3 nodes is not ready"


def test_a_long_list_of_lost_nodes_names_three():
    lost = facts(nodes_total=9, nodes_ready=0, nodes_not_ready=[f"n{i}" for i in range(9)])
    assert judge(lost, OK, NOW).reason == "9 of 9 nodes are not ready: n0, n1, n2 and 6 more"


def test_a_lost_tunnel_is_unknown_since_it_was_lost_and_says_what_it_was():
    lost = facts(tunnel_up=False, tunnel_since=ago(31), tunnel_reason="connection reset")
    assert judge(lost, OK, NOW) == Health("unknown", ago(31), "ok", "tunnel lost: connection reset")


def test_an_agent_that_reconnects_at_once_changes_nothing():
    assert judge(facts(tunnel_up=False, tunnel_since=ago(29)), OK, NOW).state == "ok"


@pytest.mark.parametrize("reason", sorted(UNSEEN_ENDS))
def test_an_end_that_no_hub_saw_counts_from_the_last_sign_of_life_as_silence_does(reason):
    lost = facts(tunnel_up=False, tunnel_reason=reason)
    at_start = replace(lost, tunnel_since=ago(60), tunnel_seen_at=ago(60))
    assert judge(at_start, OK, NOW).state == "ok"
    late = judge(replace(lost, tunnel_since=ago(61), tunnel_seen_at=ago(61)), OK, NOW)
    assert late == Health("unknown", ago(61), "ok", f"tunnel lost: {reason}")


def test_a_tunnel_that_is_recorded_as_up_but_is_silent_is_lost():
    assert judge(facts(tunnel_seen_at=ago(60)), OK, NOW).state == "ok"
    silent = judge(facts(tunnel_seen_at=ago(61)), OK, NOW)
    assert (silent.state, silent.since) == ("unknown", ago(61))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pull_error": "no answer in 30 s"}, "tunnel up but pulls fail: no answer in 30 s"),
        ({}, "return no new data"),
        ({"last_pull_at": None}, "has not pulled from it yet"),
        ({"last_pull_at": ago(900)}, "check worker and beat"),
        ({"clock_skew_ms": -600_000}, "its clock is 10 min behind"),
    ],
)
def test_old_data_is_unknown_since_its_last_minute_and_the_reason_says_why(changes, words):
    judged = judge(facts(data_as_of=ago(211), **changes), OK, NOW)
    assert (judged.state, judged.since, judged.was) == ("unknown", ago(211), "ok")
    assert words in judged.reason


def test_a_clock_that_is_off_by_more_than_can_be_stored_is_off_by_more():
    judged = judge(facts(clock_skew_ms=LARGEST_SKEW_MS), OK, NOW)
    assert judged.reason == "its clock is more than 596 h ahead"
    assert judge(facts(clock_skew_ms=-90_000), OK, NOW).reason == "its clock is 90 s behind"


@pytest.mark.parametrize(
    ("pulled", "words"),
    [(20, "its clock and its minutes disagree"), (-7180, "the next pull replaces them")],
)
def test_data_of_the_future_is_blamed_on_the_clock_that_is_still_wrong(pulled, words):
    judged = judge(facts(data_as_of=ago(-7200), last_pull_at=ago(pulled)), OK, NOW)
    assert judged.state == "unknown"
    assert words in judged.reason


@pytest.mark.parametrize(("interval", "limit"), [(5, 180), (50, 180), (60, 210), (600, 1830)])
def test_data_may_be_three_pulls_old(interval, limit):
    assert health.data_limit_seconds(interval) == limit
    at_limit = facts(interval_seconds=interval, data_as_of=ago(limit), last_pull_at=NOW)
    assert judge(at_limit, OK, NOW).state == "ok"
    over = replace(at_limit, data_as_of=ago(limit + 1))
    assert judge(over, OK, NOW).state == "unknown"


def test_a_cluster_that_never_connected_is_pending_however_long_that_takes():
    new = Facts(status="pending", interval_seconds=60)
    judged = judge(new, Health("pending", ago(9e6)), NOW)
    assert judged == Health("pending", ago(9e6), "", "waiting for its agent")


def test_a_cluster_that_just_connected_is_pending_then_unknown_without_data():
    new = facts(data_as_of=None, enrolled_at=ago(100), tunnel_since=ago(100), nodes_total=None)
    assert judge(new, Health("pending"), NOW).state == "pending"
    stuck = replace(new, enrolled_at=ago(999), tunnel_since=ago(181), pull_error="refused")
    judged = judge(stuck, Health("pending"), NOW)
    assert (judged.state, judged.was) == ("unknown", "pending")
    assert "refused" in judged.reason


def test_a_revoked_cluster_is_revoked_whatever_it_sends():
    assert judge(facts(status="revoked"), OK, NOW).state == "revoked"


times = st.none() | st.integers(-100, 100_000).map(ago)
ratios = st.none() | st.floats(0, 1)
counts = st.none() | st.integers(0, 50)
conditions = st.builds(
    Condition, what=st.sampled_from(typing.get_args(What)), node=st.sampled_from("abc"),
    name=st.sampled_from("/x"), ratio=ratios, size=st.none() | st.integers(0, 1 << 50),
    since=st.integers(-100, 100_000).map(ago), at_least=st.booleans(),
    gone_at=st.none() | st.integers(0, 4000).map(ago),
)  # fmt: skip
any_facts = st.builds(
    Facts,
    status=st.sampled_from(["pending", "active", "revoked"]),
    interval_seconds=st.integers(5, 3600),
    enrolled_at=times, tunnel_up=st.booleans(), tunnel_since=times, tunnel_seen_at=times,
    tunnel_reason=st.text(max_size=200), data_as_of=times, last_pull_at=times,
    pull_error=st.text(max_size=500), clock_skew_ms=st.none() | st.integers(-(10**9), 10**9),
    settle_seconds=st.integers(0, 600), collector_error=st.text(max_size=500),
    conditions=st.lists(conditions, max_size=4),
    nodes_ready=counts, nodes_total=counts, nodes_unknown=counts,
    nodes_not_ready=st.lists(st.text(max_size=253), max_size=10),
    mem_ws=counts, mem_cap=counts, fs_worst_ratio=ratios, fs_worst_name=st.text(max_size=300),
    inodes_worst_ratio=ratios, inodes_worst_name=st.text(max_size=300), conflict_at=times,
    conflict_detail=st.text(max_size=500),
)  # fmt: skip
any_health = st.builds(
    Health, state=st.sampled_from(WORST_FIRST), since=times,
    was=st.sampled_from(["", *WORST_FIRST]), reason=st.text(max_size=20),
)  # fmt: skip


@given(any_facts, any_health)
def test_judging_again_at_the_same_moment_changes_nothing(some, recorded):
    once = judge(some, recorded, NOW)
    assert judge(some, once, NOW) == once


@given(any_facts, any_health)
def test_every_judgement_has_a_known_state_a_time_not_later_than_now_or_recorded(some, recorded):
    judged = judge(some, recorded, NOW)
    assert judged.state in WORST_FIRST
    assert judged.since is not None
    assert judged.since <= max([NOW, recorded.since or NOW, *(c.since for c in some.conditions)])
    assert len(judged.reason) <= health.REASON_LENGTH
    assert judged.state == "ok" or judged.reason


@given(any_facts, any_health)
def test_only_fresh_data_over_a_live_tunnel_is_ever_ok(some, recorded):
    if judge(some, recorded, NOW).state in ("ok", "degraded", "critical"):
        limit = health.data_limit_seconds(some.interval_seconds, some.settle_seconds)
        assert some.status != "revoked"
        assert some.data_as_of is not None
        assert some.data_as_of >= ago(limit)
        assert some.tunnel_up or some.tunnel_since or some.tunnel_seen_at


@given(any_facts, any_health)
def test_time_alone_makes_every_cluster_unknown_pending_or_revoked(some, recorded):
    judged = judge(some, recorded, NOW + timedelta(days=400))
    assert judged.state in ("unknown", "pending", "revoked")


@given(any_facts, any_health)
def test_was_is_kept_for_unknown_only(some, recorded):
    judged = judge(some, recorded, NOW)
    if judged.state == "unknown":
        expected = recorded.was if recorded.state == "unknown" else recorded.state
        assert judged.was == expected
    else:
        assert judged.was == ""


def without(some: Facts, name: str) -> Facts:
    """Return facts that lack a piece of evidence."""
    return replace(some, **{name: None})


EVIDENCE = ("data_as_of", "tunnel_seen_at", "nodes_ready", "nodes_total")


@given(any_facts, any_health, st.sampled_from(EVIDENCE))
def test_evidence_that_is_taken_away_never_makes_a_cluster_ok(some, recorded, name):
    if judge(some, recorded, NOW).state != "ok":
        assert judge(without(some, name), recorded, NOW).state != "ok"


@given(any_facts, any_health, st.sampled_from(EVIDENCE[:2]), st.integers(6, 10**7))
def test_evidence_that_is_moved_into_the_future_never_makes_a_cluster_report(
    some, recorded, name, ahead
):
    moved = replace(some, tunnel_up=True, **{name: NOW + timedelta(seconds=ahead)})
    assert judge(moved, recorded, NOW).state in ("unknown", "pending", "revoked")


@given(any_facts, any_health, st.sampled_from(EVIDENCE[:2]), st.integers(0, 10**6))
def test_evidence_that_ages_never_makes_a_cluster_ok(some, recorded, name, seconds):
    at = getattr(some, name)
    if at is not None and at <= NOW and judge(some, recorded, NOW).state != "ok":
        aged = replace(some, **{name: at - timedelta(seconds=seconds)})
        assert judge(aged, recorded, NOW).state != "ok"


@given(any_facts, any_health, st.integers(1, 50))
def test_a_node_that_does_not_say_is_never_counted_as_well(some, recorded, lost):
    ready = (some.nodes_ready or 0) - lost
    if ready >= 0 and some.nodes_total is not None:
        silent = replace(some, nodes_ready=ready, nodes_unknown=(some.nodes_unknown or 0) + lost)
        assert judge(silent, recorded, NOW).state != "ok"


def test_a_tunnel_is_not_said_to_be_up_when_nobody_saw_it_answer():
    assert tunnel_state(facts(), NOW).up is True
    assert tunnel_state(facts(tunnel_up=False), NOW).up is False
    for seen_at in (ago(61), None, NOW + timedelta(hours=2)):
        assert tunnel_state(facts(tunnel_seen_at=seen_at), NOW).up is None


def test_the_last_error_is_not_said_of_a_tunnel_that_came_back_since():
    back = facts(
        data_as_of=ago(400), last_pull_at=ago(300), tunnel_since=ago(100), pull_error="it is down"
    )
    assert "it is down" not in judge(back, OK, NOW).reason
    assert "it is down" in judge(replace(back, last_pull_at=ago(50)), OK, NOW).reason


def test_what_the_agent_cannot_see_is_the_reason_for_old_data():
    blind = facts(data_as_of=ago(400), collector_error="the API server answers 503")
    assert judge(blind, OK, NOW).reason == (
        "tunnel up, but its agent cannot see the cluster: the API server answers 503"
    )


def test_what_was_wrong_and_is_not_measured_any_more_is_not_known():
    gone = Condition(
        what="filesystem", node="n1", name="/data", ratio=0.97, since=ago(900), gone_at=ago(100)
    )
    judged = judge(facts(conditions=[gone]), OK, NOW)
    assert (judged.state, judged.was, judged.since) == ("unknown", "ok", ago(100))
    assert judged.reason == (
        "/data on node n1 was 97 % full, not measured since 2026-03-01 11:58 UTC"
    )


def test_notes_change_no_state_and_are_said():
    told = facts(conditions=[Condition(what="readiness")])
    assert judge(told, OK, NOW).reason == (
        "all 3 nodes report; its source does not say whether nodes are ready"
    )


def test_a_clock_that_is_off_keeps_its_since_while_nothing_newer_is_known():
    off = facts(clock_skew_ms=-7_200_000)
    before = judge(off, OK, NOW)
    stale = judge(replace(off, tunnel_up=False), before, NOW + timedelta(minutes=10))
    assert stale.state == "unknown"
    [known] = [one for one in before.findings if one.key == "clock"]
    [kept] = [one for one in stale.findings if one.key == "clock"]
    assert kept.since == known.since == ago(40)


@pytest.mark.parametrize(
    ("state", "at_least"),
    [("ok", False), ("critical", False), ("unknown", True), ("pending", True)],
)
def test_a_clock_that_is_off_may_have_been_so_before_where_nothing_was_known(state, at_least):
    off = facts(clock_skew_ms=-7_200_000)
    health = judge(off, replace(OK, state=state), NOW)
    [found] = [one for one in health.findings if one.key == "clock"]
    assert (found.since, found.at_least) == (ago(40), at_least)
    assert health.at_least == at_least


@pytest.mark.parametrize("error", ["", "the tunnel of n is down"])
def test_pulls_before_the_tunnel_came_up_say_nothing_of_it(error):
    old = facts(data_as_of=ago(400), last_pull_at=ago(60), tunnel_since=ago(30), pull_error=error)
    assert judge(old, OK, NOW).reason == (
        "tunnel up, but Ops Center has not pulled from it since it came up"
    )


def test_a_pull_that_brought_the_newest_minute_there_was_is_not_told_of_as_one_without_data():
    for interval, settle in ((5, 0), (60, 0), (60, 45), (300, 45)):
        old = ago(health.data_limit_seconds(interval, settle) + 1)
        pulled = old + timedelta(seconds=60 + settle)
        stopped = facts(
            data_as_of=old, last_pull_at=pulled, interval_seconds=interval, settle_seconds=settle
        )
        assert judge(stopped, OK, NOW).reason.endswith("check worker and beat"), (interval, settle)
        goes_on = replace(stopped, last_pull_at=ago(3))
        assert judge(goes_on, OK, NOW).reason.endswith("return no new data"), (interval, settle)


def test_an_identity_in_two_places_keeps_its_since_while_the_tunnel_is_away():
    used_twice = facts(conflict_at=ago(30))
    before = judge(used_twice, OK, NOW)
    away = replace(used_twice, tunnel_up=False, tunnel_since=ago(-200))
    stale = judge(away, before, NOW + timedelta(minutes=10))
    assert (stale.state, [one.key for one in stale.findings]) == ("unknown", ["tunnel", "conflict"])
    back = replace(used_twice, tunnel_seen_at=ago(-1200), data_as_of=ago(-1200))
    after = judge(back, stale, NOW + timedelta(minutes=20))
    assert (after.state, after.since) == (before.state, before.since) == ("degraded", ago(40))
