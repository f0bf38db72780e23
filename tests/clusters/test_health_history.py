"""The history of states and findings: what is written, when, and that it stays bounded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters import health_history, status_summary
from clusters.conditions import Condition
from clusters.health import Health
from clusters.health_facts import Facts, Finding
from clusters.health_history import LEFT_OUT, STATE, stored_key, write_history
from clusters.models import Cluster, ClusterEvent, ClusterStatus
from clusters.node_inventory import SeenNode
from clusters.status_summary import PullFacts
from tests.factories import NOW, ClusterFactory

pytestmark = pytest.mark.django_db

GOOD = PullFacts(
    data_as_of=NOW, agent_version="1", kind="kubernetes", source="agent",
    nodes=[SeenNode("n1", ready=True), SeenNode("n2", ready=True), SeenNode("n3", ready=True)],
    lists_nodes=True,
)  # fmt: skip


def at(minutes: float):
    return NOW + timedelta(minutes=minutes)


@pytest.fixture
def cluster(db):
    return ClusterFactory(current__tunnel_up=True, current__tunnel_since=NOW)


def pull(cluster, minute, down=(), since=None, at_least=False, **changes):
    """Record a pull whose newest minute ends at ``minute``; the nodes ``down`` are not ready."""
    ClusterStatus.objects.filter(cluster=cluster).update(tunnel_seen_at=at(minute))
    nodes = [
        SeenNode(
            f"n{n}", ready=f"n{n}" not in down, since=since if f"n{n}" in down else None,
            at_least=at_least,
        )
        for n in (1, 2, 3)
    ]  # fmt: skip
    facts = replace(GOOD, data_as_of=at(minute), nodes=nodes, **changes)
    return status_summary.record_pull(cluster.pk, facts, at(minute + 0.1))


def rows(cluster, key=None):
    found = ClusterEvent.objects.filter(cluster=cluster).order_by("pk")
    return list(found.filter(key=key) if key else found)


def test_a_state_and_each_finding_are_one_row_each(cluster):
    pull(cluster, 0)
    pull(cluster, 5, down=["n3"], since=at(3))
    pull(cluster, 9)
    first, second, third = rows(cluster, STATE)
    assert [row.level for row in (first, second, third)] == ["ok", "degraded", "ok"]
    assert (first.began_at, first.ended_at, first.ending) == (NOW, at(3), "changed")
    assert (second.began_at, second.ended_at) == (at(3), at(9))
    assert (second.began_known_at, second.ended_known_at) == (at(5.1), at(9.1))
    assert (third.ended_at, third.ending) == (None, "")
    (node,) = rows(cluster, "node:n3")
    assert (node.level, node.text) == ("degraded", "node n3 is not ready")
    assert (node.began_at, node.began_known_at) == (at(3), at(5.1))
    assert (node.ended_at, node.ended_known_at, node.ending) == (at(9), at(9.1), "over")


def test_another_level_begins_a_new_row_where_the_one_before_ends(cluster):
    pull(cluster, 0, down=["n3"], since=NOW)
    pull(cluster, 5, down=["n3", "n2"], since=at(4))
    one, other = rows(cluster, "node:n3")
    assert (one.level, one.ended_at, one.ending) == ("degraded", at(4), "changed")
    assert (other.level, other.began_at, other.ended_at) == ("critical", at(4), None)


def test_the_same_health_twice_writes_nothing_and_asks_nothing(cluster):
    pull(cluster, 0, down=["n3"], since=NOW)
    before = list(ClusterEvent.objects.values())
    with CaptureQueriesContext(
        connection,
    ) as asked:
        pull(cluster, 1, down=["n3"], since=NOW)
    assert not [query for query in asked if "clusterevent" in query["sql"]]
    status_summary.refresh_health(cluster.pk, at(1.1))
    assert list(ClusterEvent.objects.values()) == before


def test_a_filled_gap_moves_the_beginning_back_and_never_the_time_of_knowing(cluster):
    pull(cluster, 30, down=["n3"], since=at(20), at_least=True)
    pull(cluster, 31, down=["n3"], since=at(10), at_least=False)
    (node,) = rows(cluster, "node:n3")
    assert (node.began_at, node.began_at_least, node.began_known_at) == (at(10), False, at(30.1))
    (state,) = rows(cluster, STATE)
    assert (state.began_at, state.began_at_least) == (at(10), False)


def test_the_beginning_never_moves_forward(cluster):
    pull(cluster, 30, down=["n3"], since=at(10))
    pull(cluster, 31, down=["n3"], since=at(20), at_least=True)
    (node,) = rows(cluster, "node:n3")
    assert (node.began_at, node.began_at_least) == (at(10), False)


def test_a_beginning_is_not_moved_into_the_row_before(cluster):
    pull(cluster, 0, down=["n3"], since=NOW)
    pull(cluster, 10)
    pull(cluster, 20, down=["n3"], since=at(15))
    pull(cluster, 21, down=["n3"], since=at(5))
    one, other = rows(cluster, "node:n3")
    assert (one.ended_at, other.began_at) == (at(10), at(10))


def test_what_nobody_sees_any_more_is_not_over(cluster):
    pull(cluster, 0, down=["n3"], since=NOW)
    ClusterStatus.objects.update(tunnel_up=False, tunnel_since=at(5), tunnel_seen_at=at(5))
    status_summary.judge_all(at(10))
    (node,) = rows(cluster, "node:n3")
    assert (node.ended_at, node.ending, node.ended_known_at) == (at(5), "unknown", at(10))
    assert rows(cluster, STATE)[0].ending == "unknown"
    (lost,) = rows(cluster, "tunnel")
    assert (lost.began_at, lost.ended_at) == (at(5), None)


def test_findings_that_no_sentence_names_are_recorded_too(cluster):
    parts = [Condition(what="partly_blind", name="pods", detail="403", since=at(1))]
    pull(cluster, 1, down=["n1"], since=at(1))
    pull(cluster, 2, down=["n1"], since=at(1), conditions=parts)
    (note,) = rows(cluster, "partly_blind:pods")
    assert (note.level, note.began_at) == ("note", at(1))


def test_a_change_that_is_rolled_back_leaves_no_row(cluster, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(status_summary.ClusterStatus, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        status_summary.refresh_health(cluster.pk, at(0))
    assert rows(cluster) == []


def flap(cluster, changes, start=0.0, step=1.0):
    for n in range(changes):
        now = at(start + n * step)
        level = "degraded" if n % 2 else "critical"
        found = Finding("node:n1", level, "node n1 is not ready", now)
        write_history(cluster, Health(level, now, "", "why", (found,)), facts(now), now)


def facts(now):
    return Facts(status="active", interval_seconds=60, data_as_of=now)


def test_a_cluster_that_flaps_fills_no_more_than_its_rows_of_a_day(cluster, monkeypatch):
    monkeypatch.setattr(health_history, "MAX_STATES", 4)
    monkeypatch.setattr(health_history, "MAX_FINDINGS_A_DAY", 6)
    flap(cluster, 100)
    assert len(rows(cluster)) == 4 + 1 + 6 + 1
    (left_out,) = rows(cluster, LEFT_OUT)
    assert left_out.text == "more changes than are kept of a day: 190 were left out"
    # Neither state is what it stayed in.
    newest = rows(cluster, STATE)[-1]
    assert (newest.level, newest.ended_at) == ("unknown", None)


def test_what_was_left_out_is_made_up_for_on_the_next_day(cluster, monkeypatch):
    monkeypatch.setattr(health_history, "MAX_STATES", 2)
    pull(cluster, 0)
    pull(cluster, 1, down=["n3"], since=at(1))
    pull(cluster, 2)
    assert [row.level for row in rows(cluster, STATE)] == ["ok", "degraded", "unknown"]
    tomorrow = timedelta(days=1) / timedelta(minutes=1)
    ClusterStatus.objects.update(tunnel_seen_at=at(tomorrow), data_as_of=at(tomorrow))
    assert status_summary.judge_all(at(tomorrow)) == 1
    assert status_summary.judge_all(at(tomorrow)) == 0
    assert [row.level for row in rows(cluster, STATE)][2:] == ["unknown", "ok"]
    assert rows(cluster, LEFT_OUT)[0].ended_at is not None


def test_endless_findings_fill_no_more_than_their_rows(cluster):
    for n in range(8):
        found = tuple(
            Finding(f"filesystem:n:/{n}-{m}", "degraded", "full", at(n)) for m in range(500)
        )
        write_history(cluster, Health("degraded", at(0), "", "", found), facts(at(n)), at(n))
    assert len(rows(cluster)) == 1 + 300 + 1
    assert ClusterEvent.objects.filter(ended_at=None).count() == 2


@pytest.mark.parametrize("key", ["node:" + "x" * 900, "node:\N{CJK UNIFIED IDEOGRAPH-4E00}" * 300,
                                 "node:a\nb"])  # fmt: skip
def test_keys_of_any_length_and_content_fit_and_stay_apart(key):
    stored, other = stored_key(key), stored_key(key + "y")
    assert stored != other
    assert max(len(stored.encode()), len(other.encode())) <= 500
    assert stored.isprintable()
    assert stored_key("node:n3") == "node:n3"


FINDINGS = st.dictionaries(
    st.sampled_from(["node:a", "node:b", "clock", "filesystem:a:/", "tunnel"]),
    st.tuples(st.sampled_from(["critical", "degraded", "unknown", "note"]), st.integers(-90, 5),
              st.booleans()),
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["critical", "degraded", "unknown", "ok", "pending", "revoked"]),
        st.integers(-90, 5),
        FINDINGS,
        st.integers(1, 30),
    ),
    max_size=8,
)


def health_of(state, since, found, now):
    told = tuple(
        Finding(key, level, key, now + timedelta(minutes=back), at_least=at_least)
        for key, (level, back, at_least) in found.items()
    )
    return Health(state, now + timedelta(minutes=since), "", "reason", told)


@given(steps=STEPS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_of_one_key_never_overlap_and_what_was_known_can_be_read_back(steps):
    cluster = ClusterFactory()
    now, recorded = NOW, []
    for state, since, found, minutes in steps:
        now += timedelta(minutes=minutes)
        health = health_of(state, since, found, now)
        write_history(cluster, health, facts(now), now)
        recorded.append((now, {STATE: state} | {key: part[0] for key, part in found.items()}))
    written = rows(cluster)
    for moment, levels in recorded:
        known = ClusterEvent.objects.filter(
            Q(ended_known_at=None) | Q(ended_known_at__gt=moment),
            cluster=cluster, began_known_at__lte=moment,
        )  # fmt: skip
        assert dict(known.values_list("key", "level")) == levels
    for key in {row.key for row in written}:
        spans = sorted(
            (row.began_at, row.ended_at or now + timedelta(days=1))
            for row in written
            if row.key == key
        )
        assert all(began <= ended for began, ended in spans)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_two_clusters_do_not_share_rows(cluster):
    other = ClusterFactory()
    pull(cluster, 0)
    flap(other, 3)
    assert {row.cluster_id for row in rows(cluster)} == {cluster.pk}
    assert Cluster.objects.count() == 2


def test_a_clock_that_was_ahead_leaves_no_hole_once_it_is_right(cluster):
    pull(cluster, 120)
    status_summary.refresh_health(cluster.pk, at(0))  # the clock was set back
    pull(cluster, 1, down=["n1", "n2"])
    pull(cluster, 3)
    states = [(row.level, row.began_at, row.ended_at) for row in rows(cluster, STATE)]
    assert states[-2:] == [("critical", at(1), at(3)), ("ok", at(3), None)]
