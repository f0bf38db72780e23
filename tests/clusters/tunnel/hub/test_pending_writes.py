"""Of each session only its newest facts wait, and clusters are served in turn."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from clusters.tunnel.hub.pending_writes import MAX_ENDED, PendingWrites, SessionFacts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOISY, QUIET = UUID(int=1), UUID(int=2)


def facts(*, cluster_id: UUID = NOISY, **changes: object) -> SessionFacts:
    one = SessionFacts(
        id=uuid4(), cluster_id=cluster_id, fingerprint="SHA256:none", hub="hub-1", state="gone",
        transport="tcp", remote_address="127.0.0.1", client_version="", services=(),
        connected_at=NOW, seen_at=NOW, rtt_ms=None, ended_at=NOW,
    )  # fmt: skip
    return replace(one, **changes)


@pytest.fixture
def pending():
    return PendingWrites(1.0)


def test_a_cluster_that_changes_all_the_time_is_written_once_an_interval(pending):
    taken = 0
    for step in range(1000):  # of 10 ms
        now = step / 100
        pending.of(NOISY, now)
        taken += pending.take(now) is not None
    assert taken == 10


def test_another_cluster_is_due_at_once(pending):
    pending.of(NOISY, 0)
    assert pending.take(0).cluster_id == NOISY
    pending.of(NOISY, 0.1)
    pending.of(QUIET, 0.2)
    assert pending.wait_seconds(0.2) == 0
    assert pending.take(0.2).cluster_id == QUIET
    assert pending.take(0.2) is None
    assert pending.wait_seconds(0.2) == pytest.approx(0.8)
    assert pending.take(1.0).cluster_id == NOISY
    assert pending.wait_seconds(1.0) is None


def test_what_follows_a_sign_in_at_once_is_written_with_it(pending):
    notes = pending.of(NOISY, 0, soon=False)
    assert pending.take(0.3) is None
    assert pending.of(NOISY, 0.3) is notes
    pending.of(NOISY, 0.4, soon=False)
    assert pending.take(0.4) is notes
    assert pending.wait_seconds(0.4) is None
    pending.of(NOISY, 0.5)
    assert pending.wait_seconds(0.5) == pytest.approx(0.9)
    pending.of(QUIET, 0.5, soon=False)
    assert pending.take(1.5).cluster_id == NOISY
    assert pending.take(1.5).cluster_id == QUIET


def test_clusters_are_served_in_the_order_in_which_they_fell_due(pending):
    clusters = [UUID(int=number) for number in range(5)]
    for number, cluster in enumerate(clusters):
        pending.of(cluster, number / 10)
    assert [pending.take(2).cluster_id for _ in clusters] == clusters


def test_the_facts_are_those_of_the_time_of_writing(pending):
    now = facts(state="connecting", ended_at=None)
    pending.of(NOISY, 0).live[now.id] = lambda: now
    now = replace(now, state="ready")
    assert [one.state for one in pending.take(0).facts()] == ["ready"]


def test_of_one_cluster_a_few_ended_sessions_wait(pending):
    notes = pending.of(NOISY, 0)
    many = [facts() for _ in range(MAX_ENDED + 3)]
    assert [notes.end(one) for one in many] == [True] * MAX_ENDED + [False] * 3
    assert notes.facts() == many[3:]


def test_what_could_not_be_written_waits_again_unless_something_newer_is_known(pending):
    ended, live, other = facts(), facts(ended_at=None), facts(ended_at=None)
    failed = pending.of(NOISY, 0)
    failed.end(ended)
    failed.live |= {one.id: lambda one=one: one for one in (live, other)}
    failed.turn.up_at, failed.conflict = NOW, (NOW, "two processes")
    assert pending.take(0) is failed
    notes = pending.of(NOISY, 0.1)
    gone = replace(live, ended_at=NOW)
    notes.end(gone)
    notes.take_over(failed)
    assert notes.facts() == [ended, gone, other]
    assert (notes.turn.up_at, notes.conflict) == (NOW, (NOW, "two processes"))


def test_what_waits_can_be_taken_early(pending):
    pending.of(NOISY, 0)
    pending.take(0)
    pending.of(NOISY, 0)
    assert pending.take(0) is None
    assert pending.take(0, early=True) is not None
    assert len(pending) == 0
