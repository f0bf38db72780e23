"""Of ended tunnels the newest are kept, and short ones that follow each other are counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clusters import legal_holds, services
from clusters.models import TunnelSession
from clusters.session_history import KEPT, fold, trim_sessions
from clusters.tasks import trim_sessions as trim_task

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def session(at: datetime, *, lived: float | None, cluster=None) -> TunnelSession:
    return TunnelSession(
        cluster=cluster, hub="hub-1", state="gone", transport="tcp", remote_address="192.0.2.1",
        connected_at=at, seen_at=at, ended_at=None if lived is None else at + lived * SECOND,
    )  # fmt: skip


def make(cluster, number: int, *, every: float, lived: float, until: datetime) -> None:
    first = until - number * every * SECOND
    TunnelSession.objects.bulk_create(
        session(first + place * every * SECOND, lived=lived, cluster=cluster)
        for place in range(number)
    )


@pytest.fixture
def cluster(db):
    return services.create_cluster(name="north", actor="test")


def test_short_tunnels_go_into_their_predecessor_whose_times_stay():
    long = session(NOW - 3000 * SECOND, lived=1000)
    short = [session(NOW - at * SECOND, lived=5) for at in (1990, 1900, 1800)]
    found = fold([long, *short], NOW)
    assert found.gone == [one.pk for one in short]
    assert found.kept == {long.pk: (3, short[-1].ended_at)}
    assert long.ended_at == NOW - 2000 * SECOND


def test_a_tunnel_folded_before_brings_what_was_folded_into_it():
    first, second = session(NOW - 900 * SECOND, lived=1), session(NOW - 800 * SECOND, lived=1)
    second.folded, second.folded_until = 4, NOW - 500 * SECOND
    third = session(NOW - 400 * SECOND, lived=1)
    found = fold([first, second, third], NOW)
    assert found.kept == {first.pk: (6, third.ended_at)}


@pytest.mark.parametrize(
    ("after", "lived", "before"),
    [
        (601, 5, NOW),  # long after
        (10, 60, NOW),  # not short
        (10, None, NOW),  # open
        (10, 5, NOW - 980 * SECOND),  # new: whoever looks for a fault sees each
    ],
)
def test_other_tunnels_stay(after, lived, before):
    first = session(NOW - 1000 * SECOND, lived=10)
    second = session(first.ended_at + after * SECOND, lived=lived)
    assert fold([first, second], before).gone == []


def test_a_cluster_that_signs_in_all_the_time_keeps_few_rows_of_it(cluster):
    quiet = services.create_cluster(name="quiet", actor="test")
    make(cluster, 600, every=10, lived=1, until=NOW - timedelta(hours=2))
    make(quiet, 5, every=10, lived=1, until=NOW - timedelta(hours=2))
    assert trim_sessions(NOW) == 599
    [row] = TunnelSession.objects.filter(cluster=cluster)
    assert row.folded == 599
    assert row.folded_until == NOW - timedelta(hours=2) - 9 * SECOND
    assert TunnelSession.objects.filter(cluster=quiet, folded=0).count() == 5
    assert trim_sessions(NOW) == 0


def test_of_3_000_tunnels_the_newest_2_000_are_kept(cluster):
    make(cluster, 3000, every=3600, lived=3000, until=NOW)
    assert trim_task() == 1000
    assert TunnelSession.objects.count() == KEPT
    oldest = TunnelSession.objects.earliest("connected_at")
    assert oldest.connected_at == NOW - 2000 * timedelta(hours=1)


def test_a_legal_hold_keeps_every_row(cluster):
    make(cluster, 2100, every=10, lived=1, until=NOW - timedelta(hours=2))
    legal_holds.place(cluster, reason="a dispute", actor="test")
    assert trim_sessions(NOW) == 0
    assert TunnelSession.objects.count() == 2100
