"""What a hub counts: its names and labels are in dashboards and alarms, so they stay."""

from __future__ import annotations

import contextlib

from prometheus_client import generate_latest
from redis import Redis

from clusters.tunnel.counters import Counters, metrics_key, read_hub_metrics
from tests.clusters.tunnel.conftest import asyncssh_agent, counted, get_json, serving

SERIES = {
    "gateway_callers": [],
    "gateway_overdue_total": ["reason"],
    "gateway_requests_total": ["code"],
    "hub_fds": [],
    "hub_loop_lag_seconds": [],
    "hub_rss_bytes": [],
    "hub_start_time_seconds": [],
    "tunnel_bytes_total": ["direction"],
    "tunnel_channels": ["state"],
    "tunnel_database_failures_total": [],
    "tunnel_disconnects_total": [],
    "tunnel_forward_denied_total": [],
    "tunnel_handshakes_pending": [],
    "tunnel_handshakes_total": ["result"],
    "tunnel_late_opens_total": [],
    "tunnel_open_failures_total": ["reason"],
    "tunnel_open_seconds_sum": [],
    "tunnel_opens_total": [],
    "tunnel_replacements_total": [],
    "tunnel_revocations_total": [],
    "tunnel_sessions": ["state"],
    "tunnel_sign_ins_total": [],
    "tunnel_suspicions_total": [],
}


def begin_every_series(counters: Counters) -> None:
    """A family with labels shows them only after one of its series has begun."""
    for family in vars(counters).values():
        with contextlib.suppress(AttributeError, ValueError):
            family.labels("x")


async def test_the_names_and_labels_of_what_a_hub_counts_stay(hub, redis_server):
    begin_every_series(hub.counters)
    text = generate_latest(hub.counters.registry)
    with Redis.from_url(redis_server) as redis:
        redis.set(metrics_key("hub-1"), text)
        figures = read_hub_metrics(redis)["hub-1"]
    samples = [figure.sample for figure in figures]
    assert all(figure.text for figure in figures)
    assert {sample.name: list(sample.labels) for sample in samples} == SERIES


async def test_two_hubs_of_one_process_count_apart():
    one, other = Counters(), Counters()
    one.sign_ins.inc()
    assert one.registry.get_sample_value("tunnel_sign_ins_total") == 1
    assert other.registry.get_sample_value("tunnel_sign_ins_total") == 0


async def test_a_pull_is_counted_with_its_bytes_its_time_and_its_session(hub, identity, target):
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        await get_json(identity)
        assert counted(hub, "tunnel_handshakes_total", result="ok") == 1
        assert counted(hub, "tunnel_sign_ins_total") == 1
        assert counted(hub, "tunnel_sessions", state="ready") == 1
        assert counted(hub, "tunnel_opens_total") == 1
        assert counted(hub, "tunnel_open_seconds_sum") > 0
        assert counted(hub, "tunnel_bytes_total", direction="up") > 0
        assert counted(hub, "tunnel_bytes_total", direction="down") > 0
        assert counted(hub, "gateway_requests_total", code="200") == 1
