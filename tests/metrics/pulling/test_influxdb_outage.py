"""Pulls while InfluxDB is away for an hour: nothing is lost and nothing is there twice."""

from __future__ import annotations

import pytest

from metrics.pulling.backfill import backfill_cluster
from metrics.series.windows import STREAM
from metrics.stores import close_stores, get_store
from tests.factories import ClusterFactory
from tests.metrics.conftest import story
from tests.metrics.pulling.spooled import T0, SpooledAgent, assert_store_equals_source, at, pull
from tests.metrics.stores.influxdb.server import Between, keep_for_ever, own_prefix, server


@pytest.fixture(scope="module")
def prefix(starts_servers):
    server()
    yield from own_prefix()


@pytest.fixture
def between(settings, monkeypatch, prefix):
    """The way to InfluxDB, which the settings name and the test may cut."""
    one = Between(server())
    settings.METRICS_STORE = "influxdb"
    settings.INFLUXDB_URL = one.server.url
    settings.INFLUXDB_ORG, settings.INFLUXDB_TOKEN = one.server.org, one.server.token
    settings.INFLUXDB_BUCKET_PREFIX = prefix
    monkeypatch.setattr("metrics.stores.influxdb.retention.retention_seconds", keep_for_ever)
    yield one
    one.stop()
    close_stores()


@pytest.fixture
def pulled(db, between, redis_server, stand):
    return ClusterFactory(name="north-1", current__tunnel_up=True)


@pytest.fixture
def agent(stand, pulled, tmp_path):
    one = SpooledAgent(stand, tmp_path / "spool.sqlite3")
    stand.serve(pulled, one.app)
    yield one
    one.close()


def test_an_hour_without_influxdb_leaves_no_hole_and_no_double(agent, pulled, between, caplog):
    agent.record(0, 10)
    assert pull(agent, pulled, 10.2).outcome == "ok"
    between.stop()
    for minute in range(12, 72, 10):
        agent.record(minute - 2 if minute == 12 else minute - 10, minute)
        result = pull(agent, pulled, minute + 0.2)
        assert (result.outcome, result.code) == ("failed", "store_error")
        assert between.server.url not in result.message  # any user may read it
    assert f"InfluxDB at {between.server.url} does not answer" in caplog.text
    assert get_store().position(pulled.pk, STREAM).head == at(10)
    back = Between(server(), between.port)
    try:
        agent.record(62, 75)
        assert pull(agent, pulled, 75.2).outcome == "ok"
        for minute in (75.3, 76.2, 77.2, 78.2):
            backfill_cluster(pulled.pk, at(minute))
        position = get_store().position(pulled.pk, STREAM)
        assert (position.watermark, position.head) == (at(75), at(75))
        assert {line[2] for line in story(pulled, T0)} == {"done"}
        assert sum(line[3] for line in story(pulled, T0)) == 75
        assert_store_equals_source(get_store(), pulled, agent)
    finally:
        back.stop()


def test_a_pull_that_died_after_influxdb_had_its_points_is_repeated(
    agent, pulled, between, monkeypatch
):
    agent.record(0, 10)
    with monkeypatch.context() as patch:
        patch.setattr("metrics.stores.influxdb.series.Session.save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pull(agent, pulled, 10.2)
    assert get_store().position(pulled.pk, STREAM).head is None
    assert pull(agent, pulled, 10.2).outcome == "ok"
    assert_store_equals_source(get_store(), pulled, agent)
