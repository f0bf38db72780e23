"""Pulls from a real InfluxDB 1.6.7: what an outage leaves, in its minutes and in its roll-ups."""

from __future__ import annotations

import time

import pytest

from clusters.models import Cluster
from metrics.backfill import backfill_cluster
from metrics.catalog import FIELD_NAMES
from metrics.pull import pull_cluster
from metrics.rollups import merge
from metrics.source_config import read_config, save_source
from metrics.stores import get_store
from metrics.stores.base import Cell
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


def test_a_cut_of_thirty_hours_is_filled_with_minutes_and_then_with_rollups(site, influxdb):
    now = int(time.time())
    end = (now - 300) // HOUR * HOUR  # of the hours that are over in any case
    start = end - 33 * HOUR
    heapster = Heapster(influxdb, "site")
    heapster.create()
    influxdb.query('ALTER RETENTION POLICY "default" ON "site" DURATION 60d SHARD DURATION 1h')
    heapster.write(start - 60, start + HOUR)
    pull(site, influxdb, start + HOUR + 100)
    fill(site, influxdb, start + HOUR + 101)
    assert {line.state for line in ledger_of(site)} == {"done"}

    newest = now // 60 * 60 - 60
    heapster.write(start + HOUR, newest)
    heapster.roll_up(start, end)
    heapster.expire("default", now - DAY)
    influxdb.query('ALTER RETENTION POLICY "default" ON "site" DURATION 1d SHARD DURATION 1h')
    live = pull(site, influxdb, now)
    assert live.end == (now - 90) // 60 * 60
    fill(site, influxdb, now + 1)

    assert {line.state for line in ledger_of(site)} == {"done"}
    assert {line.resolution for line in ledger_of(site)} == {60, 300}
    assert sum(line.expected for line in ledger_of(site)) == (live.end - start) // 60 + 1
    assert_every_bucket(site, start, end)
    held = {row.ts for row in get_store().scan(site.pk, "node", "1m", start, end)}
    gone = [minute for minute in range(start, end, 60) if minute not in held]
    assert gone == list(range(start + HOUR, gone[-1] + 60, 60))
    assert now - DAY - HOUR - 600 <= gone[-1] <= now - DAY


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
    cpu = FIELD_NAMES["node"].index("cpu_mc")
    hours = list(get_store().scan(site.pk, "node", "1h", start, end))
    assert len(hours) == 2 * (end - start) // HOUR
    assert {cell.n for row in hours if isinstance(cell := row.cells[cpu], Cell)} == {60}


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
