"""The figures of /metrics: their names and labels are in dashboards and alarms, so they stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from kombu import Connection, Queue
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from clusters.tunnel.counters import metrics_key
from metrics.models import PullSchedule
from opscenter.core.budgets import count_refusal, flush_refusals
from opscenter.core.heartbeats import redis_client, write_heartbeat
from opscenter.monitoring.exposition import _PRIORITY_SEPARATOR, exposition
from tests.factories import NOW, ClusterFactory, healthy

pytestmark = pytest.mark.django_db
HUB = b"""# HELP tunnel_bytes_total Bytes that were piped
# TYPE tunnel_bytes_total counter
tunnel_bytes_total{direction="up"} 5.0
# TYPE tunnel_bytes_created gauge
tunnel_bytes_created{direction="up"} 1.7e+09
# TYPE hub_loop_lag_seconds gauge
hub_loop_lag_seconds 0.25
"""
FAMILIES = {
    "opscenter_build_info": ("gauge", ["version"]),
    "opscenter_cluster_data_age_seconds": ("gauge", ["cluster", "cluster_id"]),
    "opscenter_cluster_health": ("gauge", ["cluster", "cluster_id", "state"]),
    "opscenter_cluster_tunnel_up": ("gauge", ["cluster", "cluster_id"]),
    "opscenter_clusters": ("gauge", ["state"]),
    "opscenter_disk_free_bytes": ("gauge", []),
    "opscenter_heartbeat_age_seconds": ("gauge", ["process"]),
    "opscenter_hub_loop_lag_seconds": ("untyped", ["hub"]),
    "opscenter_part_missing": ("gauge", ["part"]),
    "opscenter_pull_consecutive_failures": ("gauge", ["cluster", "stream"]),
    "opscenter_pull_duration_seconds": ("gauge", ["cluster", "stream"]),
    "opscenter_pull_lag_seconds": ("gauge", ["cluster", "stream"]),
    "opscenter_queue_length": ("gauge", ["queue"]),
    "opscenter_ready": ("gauge", []),
    "opscenter_redis_up": ("gauge", []),
    "opscenter_refused": ("counter", ["budget", "by"]),
    "opscenter_tunnel_bytes_total": ("untyped", ["direction", "hub"]),
    "opscenter_tunnels_up": ("gauge", []),
}


def samples(name: str) -> list[Sample]:
    text = exposition().decode()
    return [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"opscenter_{name}"
    ]


def test_families_keep_their_names_types_and_labels(redis_server):
    cluster = ClusterFactory(**healthy(datetime.now(UTC)))
    PullSchedule.objects.create(cluster=cluster, due_at=NOW, duration_ms=250)
    write_heartbeat("hub")
    count_refusal("queries", "user")
    redis_client().set(metrics_key("hub-1"), HUB)
    families = list(text_string_to_metric_families(exposition().decode()))
    assert all(family.documentation for family in families)
    assert {
        family.name: (family.type.replace("unknown", "untyped"), sorted(family.samples[0].labels))
        for family in families
    } == FAMILIES


def test_a_figure_of_a_hub_is_explained_by_what_the_hub_says_of_it(redis_server):
    redis_client().set(metrics_key("hub-1"), HUB)
    assert "# HELP opscenter_tunnel_bytes_total Bytes that were piped\n" in exposition().decode()


def test_the_figures_of_several_hubs_are_one_family_each(redis_server):
    for hub in ("hub-2", "hub-1"):
        redis_client().set(metrics_key(hub), HUB)
    assert [(one.labels["hub"], one.value) for one in samples("tunnel_bytes_total")] == [
        ("hub-1", 5),
        ("hub-2", 5),
    ]
    assert exposition().decode().count("# TYPE opscenter_tunnel_bytes_total ") == 1


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "\\n", "two\nlines", "a,b}c{d=e", "süd"])
def test_a_clusters_name_arrives_whatever_is_in_it(redis_server, name):
    cluster = ClusterFactory(name=name, **healthy(datetime.now(UTC)))
    PullSchedule.objects.create(cluster=cluster, due_at=NOW - timedelta(seconds=30))
    for family in ("cluster_tunnel_up", "cluster_health", "pull_lag_seconds"):
        assert [one.labels["cluster"] for one in samples(family)] == [name]


def test_a_schedule_that_was_set_by_a_clock_ahead_says_nothing_about_the_lag(redis_server):
    cluster = ClusterFactory()
    later = datetime.now(UTC) + timedelta(hours=1)
    PullSchedule.objects.create(cluster=cluster, due_at=later, dispatched_at=later)
    assert samples("pull_lag_seconds") == []


@pytest.mark.parametrize(("said", "passed_on"), [(b"NaN", "NaN"), (b"+Inf", "+Inf"), (b"3", "3.0")])
def test_a_figure_of_a_hub_is_passed_on_whatever_its_value(redis_server, said, passed_on):
    redis_client().set(metrics_key("hub-1"), b"hub_loop_lag_seconds " + said + b"\n")
    assert f'opscenter_hub_loop_lag_seconds{{hub="hub-1"}} {passed_on}\n' in exposition().decode()


def test_a_hubs_label_arrives_whatever_is_in_it(redis_server):
    redis_client().set(metrics_key('h"1'), b'gateway_requests_total{code="a\\"b\\\\c\\nd"} 1\n')
    [sample] = samples("gateway_requests_total")
    assert sample.labels == {"hub": 'h"1', "code": 'a"b\\c\nd'}


def test_what_a_hub_of_an_earlier_version_left_in_redis_fails_no_scrape(redis_server):
    redis_client().set("opscenter:hub:metrics:hub-1", b'{"hub_fds": 15}')
    assert samples("redis_up")[0].value == 1
    assert samples("hub_fds") == []


def test_kombu_still_keeps_tasks_with_a_priority_where_we_count_them(redis_server, settings):
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    address = f"redis+socket://{redis_server.removeprefix('unix://')}"
    with Connection(address, transport_options=options) as connection:
        queue = Queue("backfill", routing_key="backfill")
        for priority in options["priority_steps"]:
            connection.Producer().publish(
                {}, routing_key="backfill", priority=priority, declare=[queue]
            )
    kept = {key.decode() for key in redis_client().scan_iter("backfill*")}
    assert kept == {"backfill", *(f"backfill{_PRIORITY_SEPARATOR}{step}" for step in (3, 6, 9))}, (
        f"kombu keeps tasks with a priority under {sorted(kept)}, no longer where "
        f"{exposition.__module__} counts them: read kombu's changes and adapt it"
    )
    [waiting] = [one.value for one in samples("queue_length") if one.labels["queue"] == "backfill"]
    assert waiting == 4


def test_what_a_budget_refused_is_counted(redis_server):
    flush_refusals(redis_client())
    redis_client().flushall()
    count_refusal("queries", "user")
    count_refusal("queries", "user")

    [sample] = samples("refused_total")

    assert (sample.labels, sample.value) == ({"budget": "queries", "by": "user"}, 2)
