"""Pulls from a real InfluxDB 1.6.7: what an outage leaves, in its minutes and in its roll-ups."""

from __future__ import annotations

import time

import pytest

from clusters.models import Cluster
from metrics.connections.config import read_config, save_source
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from metrics.series.rollups import merge
from metrics.stores import get_store
from tests.factories import ClusterFactory
from tests.metrics.conftest import ledger_of
from tests.servers.heapster import Heapster, expected_minutes, expected_rollups
from tests.servers.influxdb import InfluxServer

HOUR = 3600
DAY = 86_400


@pytest.fixture
def site(db, store, redis_server, admin) -> Cluster:
    cluster = ClusterFactory(name="gravity-1", current__tunnel_up=True)
    save_source(cluster, read_config("influxdb", settings={"database": "site"}), actor=admin)
    return cluster


def test_a_cut_of_five_days_is_filled_from_minutes_and_from_both_rollups(site, influxdb):
    """The policies are shorter than Gravity's: they are read from the server, not assumed."""
    now = int(time.time())
    end = (now - 300) // HOUR * HOUR  # of the hours that are over in any case
    start = end - 5 * DAY
    heapster = Heapster(influxdb, "site")
    heapster.create()
    influxdb.query('ALTER RETENTION POLICY "default" ON "site" DURATION 60d SHARD DURATION 1h')
    heapster.write(start - 60, start + HOUR)
    pull(site, influxdb, start + HOUR + 100)
    fill(site, influxdb, start + HOUR + 101)
    assert {line.state for line in ledger_of(site)} == {"done"}

    heapster.write_rollups("long", start, end)
    heapster.write_rollups("medium", start, end)
    heapster.write(end - 26 * HOUR, now // 60 * 60 - 60)
    heapster.expire("default", now - DAY)
    heapster.expire("medium", now - 3 * DAY)
    influxdb.query(
        'ALTER RETENTION POLICY "default" ON "site" DURATION 1d SHARD DURATION 1h; '
        'ALTER RETENTION POLICY "medium" ON "site" DURATION 3d'
    )
    live = pull(site, influxdb, now)
    assert live.end == (now - 90) // 60 * 60
    fill(site, influxdb, now + 1)

    lines = ledger_of(site)
    assert {(line.state, line.resolution) for line in lines} == {
        ("done", 60), ("done", 300), ("done", 3600),
    }  # fmt: skip
    assert lines[0].start == start - 60
    assert sum(line.expected for line in lines) == (live.end - lines[0].start) // 60
    later = [line for line in lines if line.start >= start + HOUR]
    begins = {step: min(w.start for w in later if w.resolution == step) for step in (60, 300)}
    assert now - DAY - 7200 <= begins[60] <= now - DAY
    assert now - 4 * DAY <= begins[300] <= now - 3 * DAY
    assert_every_bucket(site, begins[300], end)
    hours = expected_rollups("long", start + HOUR, begins[300])
    for kind in ("node", "filesystem", "pod"):
        stored = get_store().scan(site.pk, kind, "1h", start + HOUR, begins[300])
        wanted = {place: cells for place, cells in hours.items() if place[1].kind == kind}
        assert {(row.ts, row.key): row.cells for row in stored} == wanted
    counted = list(get_store().scan(site.pk, "node", "1h", start, end))
    assert len(counted) == 2 * 5 * 24
    assert {row.cells[0].n for row in counted if row.cells[0]} == {60}


def assert_every_bucket(site: Cluster, start: int, end: int) -> None:
    """Compare all fields of all buckets: each is of all its minutes, or the server's own."""
    minutes = expected_minutes(start, end)
    rollups = expected_rollups("medium", start, end)
    for kind in ("node", "filesystem", "pod"):
        rows = list(get_store().scan(site.pk, kind, "10m", start, end))
        places = [place for place in rollups if place[1].kind == kind]
        assert sorted((row.ts, row.key) for row in rows) == sorted(places)
        for row in rows:
            times = range(row.ts, row.ts + 600, 60)
            parts = zip(*(minutes[t, row.key] for t in times), strict=True)
            raw = tuple(merge(column) for column in parts)
            assert row.cells in (raw, rollups[row.ts, row.key]), (row.ts - start, row.key)


def pull(site: Cluster, server: InfluxServer, now: int):
    result = pull_cluster(site.pk, now, connect=lambda _: server.client())
    assert result.outcome == "ok", result
    return result


def fill(site: Cluster, server: InfluxServer, now: int) -> None:
    """Fill until no gap is open."""
    for _ in range(60):
        result = backfill_cluster(site.pk, now, connect=lambda _: server.client())
        assert not result.error, result
        if not result.open:
            return
    pytest.fail("gaps are left open")
