"""/healthz, /readyz and /metrics over HTTP, with a real Redis behind them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from clusters.models import ApiToken, ClusterStatus
from clusters.tunnel.counters import metrics_key
from metrics.models import PullSchedule
from metrics.stores import close_stores, get_store
from opscenter.core.heartbeats import redis_client, write_heartbeat
from opscenter.core.write_checks import record_write
from opscenter.monitoring import readiness as started
from opscenter.monitoring.readiness import problem_of
from opscenter.processes.redis_server import RedisBinary, redis_arguments
from tests.centre import wait_until
from tests.signs import show_life

pytestmark = pytest.mark.django_db
PROCESSES = ("worker", "beat", "hub")


@pytest.fixture
def redis(starts_servers, tmp_path: Path, settings) -> Iterator[subprocess.Popen[bytes]]:
    socket = tmp_path / "redis.sock"
    path = shutil.which("redis-server")
    assert path, "redis-server is missing: apt-get install redis-server"
    process = subprocess.Popen(
        redis_arguments(RedisBinary(path), socket), stdout=subprocess.DEVNULL
    )
    settings.REDIS_URL = f"unix://{socket}"
    wait_until(socket.exists, "Redis listens")
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def all_well(redis, settings, tmp_path: Path) -> Iterator[None]:
    settings.METRICS_SQLITE_PATH = tmp_path / "metrics.sqlite3"
    show_life()
    yield
    close_stores()


def readiness(client: Client) -> tuple[int, dict[str, str]]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()["missing"]


def test_what_works_but_should_be_checked_is_a_warning(client, all_well, monkeypatch):
    assert client.get("/readyz").json()["warnings"] == []
    monkeypatch.setattr(type(get_store()), "warnings", lambda _: ["1 damaged chunks"])
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["warnings"] == ["metric store: 1 damaged chunks"]


def figures(client: Client, **headers: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.content
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_alive_needs_nothing_else(client):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_ready_when_everything_shows_life(client, all_well):
    assert readiness(client) == (200, {})


def test_processes_that_all_show_life_but_pull_nothing_are_not_ready(
    client, all_well, cluster, monkeypatch
):
    now = datetime.now(UTC)
    monkeypatch.setattr(started, "STARTED_AT", now.timestamp())
    tried = PullSchedule.objects.create(
        cluster=cluster, due_at=now, dispatched_at=now, last_attempt_at=now - timedelta(seconds=200)
    )
    assert readiness(client) == (200, {}), "what was not pulled while the centre was down"
    monkeypatch.setattr(started, "STARTED_AT", now.timestamp() - 61)
    status, missing = readiness(client)
    assert (status, list(missing)) == (503, ["pulls"])
    assert missing["pulls"].startswith("has pulled no cluster for 20")
    assert problem_of(missing).startswith("Ops Center has pulled no cluster for 20")
    tried.last_attempt_at = now
    tried.save()
    assert readiness(client) == (200, {})


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_that_is_silent_for_too_long_is_missing(client, all_well, name):
    write_heartbeat(name, now=time.time() - 75)
    status, missing = readiness(client)
    assert status == 503
    assert list(missing) == [name]
    assert missing[name].startswith("no heartbeat for 7")


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_that_never_showed_life_is_missing(client, all_well, name):
    redis_client().delete(f"opscenter:heartbeat:{name}")
    assert readiness(client) == (503, {name: "no heartbeat yet"})


def test_each_of_several_workers_has_to_show_life(client, all_well, settings):
    settings.WORKER_PROCESSES = 2
    write_heartbeat("up")
    write_heartbeat("worker-1")
    assert readiness(client) == (503, {"worker-2": "no heartbeat yet"})
    write_heartbeat("worker-2")
    assert readiness(client) == (200, {})


def test_a_database_that_takes_no_writes_is_missing_and_the_figures_say_so_too(client, all_well):
    assert figures(client)["opscenter_ready", ()] == 1
    record_write("database", "the disk is full")
    status, missing = readiness(client)
    assert status == 503
    assert list(missing) == ["database writes"]
    assert missing["database writes"].endswith("UTC: the disk is full")
    found = figures(client)
    assert found["opscenter_ready", ()] == 0
    parts = {dict(key)["part"]: v for (n, key), v in found.items() if n.endswith("part_missing")}
    assert {part for part, value in parts.items() if value} == {"database writes"}


def test_a_heartbeat_from_the_future_is_no_sign_of_life(client, all_well):
    write_heartbeat("worker", now=time.time() + 7200)
    status, missing = readiness(client)
    assert status == 503
    assert missing["worker"].startswith("its last heartbeat is 7")


def test_without_redis_nothing_is_known_about_the_others(client, all_well, redis):
    redis.kill()
    redis.wait()
    status, missing = readiness(client)
    assert status == 503
    assert missing["redis"] == "does not answer"
    assert set(missing) == {"redis", *PROCESSES, "database writes", "metric store writes"}
    assert figures(client)["opscenter_ready", ()] == 0


def test_a_metric_store_that_cannot_be_read_is_missing(client, all_well, settings, tmp_path):
    settings.METRICS_SQLITE_PATH = tmp_path / "broken.sqlite3"
    settings.METRICS_SQLITE_PATH.write_bytes(b"this is no database" * 500)
    assert readiness(client) == (503, {"metric store": "cannot be read"})


def test_figures_cover_every_cluster(client, all_well, cluster):
    now = datetime.now(UTC)
    ClusterStatus.objects.update(tunnel_seen_at=now)
    PullSchedule.objects.create(
        cluster=cluster, due_at=now - timedelta(seconds=30), duration_ms=250.0, failures=2
    )
    redis_client().rpush("pull", "x", "y")
    redis_client().rpush("backfill\x06\x166", "z")
    found = figures(client)
    of_cluster = (("cluster", "north-1"), ("cluster_id", str(cluster.pk)))
    of_stream = (("cluster", "north-1"), ("stream", "agent"))
    assert found["opscenter_cluster_tunnel_up", of_cluster] == 1
    assert found["opscenter_cluster_data_age_seconds", of_cluster] >= 0
    assert 30 <= found["opscenter_pull_lag_seconds", of_stream] < 300
    assert found["opscenter_pull_duration_seconds", of_stream] == 0.25
    assert found["opscenter_pull_consecutive_failures", of_stream] == 2
    assert found["opscenter_tunnels_up", ()] == 1
    assert sum(value for (name, _), value in found.items() if name == "opscenter_clusters") == 1
    assert found["opscenter_queue_length", (("queue", "pull"),)] == 2
    assert found["opscenter_queue_length", (("queue", "backfill"),)] == 1
    assert found["opscenter_redis_up", ()] == 1
    assert ("opscenter_heartbeat_age_seconds", (("process", "hub"),)) in found


def test_figures_pass_on_what_the_hub_counts(client, all_well):
    redis_client().set(metrics_key("hub-1"), b'tunnel_sessions{state="ready"} 3\nhub_fds 15\n')
    found = figures(client)
    assert found["opscenter_tunnel_sessions", (("hub", "hub-1"), ("state", "ready"))] == 3
    assert found["opscenter_hub_fds", (("hub", "hub-1"),)] == 15


def test_figures_without_redis_say_so_and_keep_the_rest(client, all_well, redis, cluster):
    ClusterStatus.objects.update(tunnel_seen_at=datetime.now(UTC))
    redis.kill()
    redis.wait()
    found = figures(client)
    assert found["opscenter_redis_up", ()] == 0
    assert found["opscenter_tunnels_up", ()] == 1


def test_figures_cost_the_same_queries_for_one_cluster_and_for_many(
    client, all_well, cluster, django_assert_num_queries
):
    from tests.factories import ClusterFactory, healthy

    with django_assert_num_queries(5):
        figures(client)
    for number in range(20):
        ClusterFactory(name=f"more-{number}", **healthy())
    with django_assert_num_queries(5):
        figures(client)


@pytest.mark.parametrize(
    "change",
    [
        {"REMOTE_ADDR": "192.0.2.7"},
        {"headers": {"x-forwarded-for": "192.0.2.7"}},
        {"headers": {"forwarded": "for=192.0.2.7"}},
        {"headers": {"x-real-ip": "127.0.0.1"}},
        {"REMOTE_ADDR": ""},
    ],
)
def test_a_visitor_from_elsewhere_may_not_scrape(client, change):
    assert client.get("/metrics", **change).status_code == 401


def test_nobody_scrapes_a_published_centre_without_a_token(client, settings):
    settings.PUBLIC_HOST = "ops.example.org"
    assert client.get("/metrics").status_code == 401


def test_a_token_of_one_who_sees_all_opens_the_figures(client, all_well, settings, auditor, viewer):
    settings.PUBLIC_HOST = "ops.example.org"
    _, good = ApiToken.objects.create(user=auditor, name="prometheus", read_only=True)
    _, poor = ApiToken.objects.create(user=viewer, name="prometheus")
    assert figures(client, authorization=f"Token {good}")
    denied = client.get("/metrics", headers={"authorization": f"Token {poor}"})
    assert denied.status_code == 403
    assert denied.json()["error"]["code"] == "forbidden"


def test_figures_come_in_one_format_for_every_request(client, all_well):
    answer = client.get(
        "/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0,text/html;q=0.1"}
    )
    assert answer["content-type"].startswith("text/plain; version=0.0.4")


def test_an_influxdb_that_is_away_is_missing_without_its_address(
    client, all_well, settings, caplog
):
    settings.METRICS_STORE = "influxdb"
    settings.INFLUXDB_URL, settings.INFLUXDB_TOKEN = "http://127.0.0.1:1", "secret-token"
    status, missing = readiness(client)
    assert (status, list(missing)) == (503, ["metric store"])
    assert missing["metric store"].startswith("InfluxDB does not answer")
    assert "127.0.0.1:1" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize("host", ["10.1.2.3", "web:8000", "10.1.2.3:8000", "[2001:db8::1]"])
def test_probes_and_scrapes_by_an_address_are_answered(client, all_well, admin, host):
    assert client.get("/healthz", headers={"host": host}).status_code == 200
    assert client.get("/readyz", headers={"host": host}).status_code == 200
    client.force_login(admin)
    assert client.get("/metrics", headers={"host": host}).status_code == 200


def test_nothing_else_is_answered_under_a_foreign_name(client, admin):
    client.force_login(admin)
    for path in ("/", "/healthz/x", "/metrics/", "/api/v1/clusters/", "//healthz", "/readyz/"):
        assert client.get(path, headers={"host": "10.1.2.3"}).status_code == 400, path


def test_figures_under_a_foreign_name_need_a_token_even_on_this_machine(client, settings):
    settings.PUBLIC_HOST = "127.0.0.1"
    assert client.get("/metrics", headers={"host": "127.0.0.1"}).status_code == 200
    # A page in a browser here, whose name leads to 127.0.0.1, is not who sits here.
    assert client.get("/metrics", headers={"host": "rebound.example"}).status_code == 401
