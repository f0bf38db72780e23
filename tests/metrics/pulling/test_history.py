"""A gap that is filled corrects the history, by the product's own pulls and backfill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from clusters import health_history, status_summary
from clusters.models import ClusterEvent, ClusterStatus
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from tests.metrics.pulling.scripted import DAY, ScriptedSource, answer_as, nowhere
from tests.metrics.pulling.test_backfill import make_site

T0 = 1_800_000_000 - 1_800_000_000 % DAY
LOST, BACK = T0 + 3600, T0 + 3 * 3600
"""The tunnel goes and comes back."""


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.fixture
def source(monkeypatch) -> ScriptedSource:
    one = ScriptedSource(born=T0)
    answer_as(monkeypatch, "influxdb", one)
    return one


@pytest.fixture
def site(db, store, redis_server, source, admin):
    return make_site(admin)


def pull(site, now: int) -> None:
    ClusterStatus.objects.filter(cluster=site).update(
        tunnel_up=True, tunnel_seen_at=moment(now), tunnel_since=moment(T0)
    )
    assert pull_cluster(site.pk, now, connect=nowhere).outcome == "ok"


def outage(site) -> None:
    """Pull before and after a time in which the tunnel is away."""
    for now in range(LOST - 600, LOST, 60):
        pull(site, now)
    ClusterStatus.objects.filter(cluster=site).update(
        tunnel_up=False, tunnel_since=moment(LOST), tunnel_seen_at=moment(LOST)
    )
    status_summary.judge_all(moment(LOST + 300))
    for now in range(BACK, BACK + 600, 60):
        pull(site, now)


def fill(site) -> None:
    while backfill_cluster(site.pk, BACK + 900, connect=nowhere).open:
        pass


def told(site, key: str) -> list[tuple[str, float, float | None, str]]:
    rows = ClusterEvent.objects.filter(cluster=site, key=key).order_by("began_at", "ended_at")
    minutes = timedelta(minutes=1)
    return [
        (row.level, (row.began_at - moment(LOST)) / minutes,
         None if row.ended_at is None else (row.ended_at - moment(LOST)) / minutes, row.ending)
        for row in rows
    ]  # fmt: skip


def test_a_node_that_fails_and_comes_back_while_nobody_sees_it_is_in_the_history(site, source):
    source.unready = lambda name, minute: name == "n1" and LOST + 1800 <= minute < LOST + 2400
    outage(site)
    assert told(site, "node:n1") == []
    fill(site)
    assert told(site, "node:n1") == [("degraded", 30, 40, "over")]
    (row,) = ClusterEvent.objects.filter(cluster=site, key="node:n1")
    assert row.began_known_at == row.ended_known_at == moment(BACK + 900)
    assert not row.began_at_least
    assert ("degraded", 30, 40, "unknown") in told(site, "state")


def test_a_closed_row_takes_its_beginning_and_its_end_from_the_gap(site, source):
    """n1 fails before the tunnel goes and is well at its return; n2 fails before the return."""
    source.unready = lambda name, minute: (
        LOST - 300 <= minute < LOST + 1200 if name == "n1" else LOST + 6000 <= minute < BACK + 240
    )
    outage(site)
    before = {row.key: row for row in ClusterEvent.objects.filter(cluster=site)}
    assert (before["node:n1"].ending, before["node:n2"].began_at_least) == ("unknown", True)
    assert before["node:n2"].ended_at is not None
    fill(site)
    ((_, began, ended, ending),) = told(site, "node:n1")
    assert (began, ended, ending) == (-5, 20, "over")
    ((_, began, _, ending),) = told(site, "node:n2")
    assert (began, ending) == (100, "over")
    for key in ("node:n1", "node:n2"):
        row = ClusterEvent.objects.get(cluster=site, key=key)
        old = before[key]
        assert (row.began_known_at, row.ended_known_at) == (old.began_known_at, old.ended_known_at)
        assert not row.began_at_least
    levels = [(level, began, ended) for level, began, ended, _ in told(site, "state")]
    assert ("unknown", 20, 100) in levels
    assert all(a[2] == b[1] for a, b in pairwise(levels))


def test_a_node_that_stays_down_all_the_time_is_down_without_a_break(site, source):
    source.unready = lambda name, minute: name == "n1" and minute >= LOST - 300
    outage(site)
    fill(site)
    rows = told(site, "node:n1")
    assert (rows[0][1], rows[-1][2]) == (-5, None)
    assert all(a[2] == b[1] for a, b in pairwise(rows))
    lasted = [row for row in told(site, "state") if row[0] == "unknown" and row[1] != row[2]]
    assert [row for row in lasted if row[1] >= -5] == []


def test_filling_the_same_gap_again_changes_nothing(site, source, monkeypatch):
    source.unready = lambda name, minute: name == "n1" and LOST + 1800 <= minute < LOST + 2400
    outage(site)
    fill(site)
    stored = list(ClusterEvent.objects.order_by("pk").values())
    late = ClusterEvent.objects.all()
    source.asked.clear()
    backfill_cluster(site.pk, BACK + 7200, connect=nowhere)
    assert source.asked
    assert list(late.order_by("pk").values()) == stored


def test_a_gap_full_of_changes_fills_no_more_than_its_rows_of_a_day(site, source, monkeypatch):
    monkeypatch.setattr(health_history, "MAX_FINDINGS_A_DAY", 5)
    source.unready = lambda name, minute: (
        name == "n1" and LOST < minute < BACK - 600 and minute // 60 % 2
    )
    outage(site)
    fill(site)
    rows = told(site, "node:n1")
    assert 0 < len(rows) <= 5
    (left_out,) = ClusterEvent.objects.filter(cluster=site, key=health_history.LEFT_OUT)
    assert left_out.text.startswith("more changes than are kept of a day")


def test_history_of_a_well_cluster_is_not_touched(site, source):
    source.unready = lambda _name, _minute: False
    outage(site)
    stored = list(ClusterEvent.objects.order_by("pk").values())
    fill(site)
    assert list(ClusterEvent.objects.order_by("pk").values()) == stored
