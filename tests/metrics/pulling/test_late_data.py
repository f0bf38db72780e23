"""Data that comes late to a source is picked up, and nothing is written where none came."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from metrics.connections import connect
from metrics.models import PullSchedule
from metrics.pulling.backfill import backfill_cluster
from metrics.retention.in_force import retention_of
from metrics.series.rows import SeriesKey
from metrics.stores import get_store
from tests.factories import ClusterFactory
from tests.metrics.pulling.outages import (
    HOUR,
    T0,
    assert_neither_hole_nor_double,
    fill,
    pull,
    schedule_of,
)
from tests.metrics.pulling.scripted import (
    DAY,
    nowhere,
)


@pytest.mark.parametrize("delay", [600, HOUR, 6 * HOUR])
def test_data_that_comes_late_is_picked_up(site, source, delay):
    start = T0 + 3 * HOUR
    window = range(start + 600, start + 1200, 60)
    source.late = {("n2", minute): minute + 60 + delay for minute in window}
    source.late |= {("web-1", start + 660): start + 660 + 60 + delay}
    for now in range(start, start + 8 * HOUR, 600 if delay > HOUR else 120):
        assert pull(site, now + 100).outcome == "ok"
        backfill_cluster(site.pk, now + 101, connect=nowhere)
    assert_neither_hole_nor_double(site, start - HOUR, start + HOUR)
    pods = get_store().read(
        site.pk, SeriesKey("pod", "default", "web-1"), "cpu_mc", "1m", start, start + HOUR
    )
    assert len(pods.t) == 60


def test_a_look_for_late_data_that_finds_none_writes_nothing(site, source, monkeypatch):
    start = T0 + 3 * HOUR
    for now in range(start, start + HOUR, 600):
        pull(site, now + 100)
        fill(site, now + 101)
    monkeypatch.setattr(
        "metrics.pulling.ledger_writer.write",
        lambda *_rest: pytest.fail("what is stored was written again"),
    )
    source.asked.clear()
    result = backfill_cluster(site.pk, start + HOUR + 101, connect=nowhere)
    assert source.asked
    assert (result.late, result.open) == (0, 0)


def test_an_agent_is_never_asked_for_late_data(db, store, redis_server):
    cluster = ClusterFactory(name="south-1", current__tunnel_up=True)
    PullSchedule.objects.create(cluster=cluster, due_at=datetime.now(UTC))
    result = backfill_cluster(cluster.pk, T0 + HOUR, connect=nowhere)
    assert (result.ran, result.requested) == (True, [])
    assert schedule_of(cluster).recheck_due_at is None


def test_of_a_source_that_is_empty_at_first_no_more_is_asked_for_later_than_is_kept(site, source):
    source.born = T0 + 10 * HOUR
    assert pull(site, T0 + 3 * HOUR).outcome == "ok"
    site.refresh_from_db()
    limits = connect.connection_to(site, schedule_of(site), nowhere).limits
    assert limits.first_reach == min(364 * DAY, max(retention_of(site).seconds.values()))
    pull(site, T0 + 11 * HOUR)
    site.refresh_from_db()
    assert connect.connection_to(site, schedule_of(site), nowhere).limits.wanted is None
