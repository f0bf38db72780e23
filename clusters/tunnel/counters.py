"""What the hub counts, and how the web process reads it for ``/metrics``.

The hub writes its registry to Redis with its heartbeat, in Prometheus's text format; names lack
the ``opscenter_`` prefix there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from redis import Redis

HEARTBEAT_KEY = "opscenter:heartbeat:hub"
UNKNOWN_PROXY_KEY = "opscenter:hub:unknown_proxy"
"""When a peer last forwarded an address without being a trusted proxy, in Unix seconds."""
_METRICS_PREFIX = "opscenter:hub:figures:"  # older hubs wrote JSON under "metrics"
METRICS_TTL_SECONDS = 60
_PROC = Path("/proc/self")


def metrics_key(hub: str) -> str:
    """Return the Redis key of one hub's figures."""
    return f"{_METRICS_PREFIX}{hub}"


@dataclass(frozen=True, slots=True)
class HubFigure:
    """One value that a hub counts, and what it is, in the hub's words; "" if it gave none."""

    sample: Sample
    text: str


def read_hub_metrics(redis: Redis) -> dict[str, list[HubFigure]]:
    """Return the figures of every live hub, by hub.

    Empty when no hub has written for a minute.

    Raises:
        redis.exceptions.RedisError: if Redis is away.
    """
    found: dict[str, list[HubFigure]] = {}
    for key in redis.scan_iter(match=f"{_METRICS_PREFIX}*", count=100):
        value = redis.get(key)
        if isinstance(value, bytes):  # else it has just expired
            found[key.decode().removeprefix(_METRICS_PREFIX)] = _samples(value.decode())
    return found


def _samples(text: str) -> list[HubFigure]:
    """Return the figures of a text, without when each counter began, which the library adds."""
    return [
        HubFigure(sample, family.documentation)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]


class Counters:
    """What one hub process counts, in a registry of its own.

    A label's value is our own word, never a peer's text: each value makes a series that stays.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        self.handshakes = counter("tunnel_handshakes_total", "Handshakes, by outcome", ["result"])
        self.sign_ins = counter("tunnel_sign_ins_total", "Sessions that began")
        self.disconnects = counter("tunnel_disconnects_total", "Sessions that ended")
        self.replacements = counter("tunnel_replacements_total", "Sessions that were replaced")
        self.suspicions = counter("tunnel_suspicions_total", "Sessions probed after a slow open")
        self.revocations = counter("tunnel_revocations_total", "Sessions cut for a lost right")
        self.forward_denied = counter("tunnel_forward_denied_total", "Forwards refused")
        self.opens = counter("tunnel_opens_total", "Channels opened")
        # A gauge, because the library ends the name of every counter with _total.
        self.open_seconds = gauge("tunnel_open_seconds_sum", "Seconds that those opens took")
        self.open_failures = counter("tunnel_open_failures_total", "Failed opens", ["reason"])
        self.late_opens = counter("tunnel_late_opens_total", "Opens whose caller had left")
        self.bytes = counter("tunnel_bytes_total", "Bytes that were piped", ["direction"])
        self.gateway_requests = counter("gateway_requests_total", "Requests, by answer", ["code"])
        self.gateway_overdue = counter(
            "gateway_overdue_total", "Pipes ended as overdue", ["reason"]
        )
        self.loop_lag = gauge("hub_loop_lag_seconds", "Worst delay of about the last minute")
        gauge("hub_start_time_seconds", "When the hub started").set_to_current_time()
        if _PROC.exists():
            gauge("hub_fds", "Open files").set_function(_open_files)
            gauge("hub_rss_bytes", "Resident memory").set_function(_resident_bytes)


def _open_files() -> float:
    return float(sum(1 for _ in (_PROC / "fd").iterdir()))


def _resident_bytes() -> float:
    pages = int((_PROC / "statm").read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
