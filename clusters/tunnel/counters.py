"""What the hub counts, and how the web process reads it for ``/metrics``.

The hub writes one JSON object to Redis with its heartbeat; its keys are Prometheus metric names
without the ``opscenter_`` prefix, and label values follow in braces.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import orjson
from redis import Redis

HEARTBEAT_KEY = "opscenter:heartbeat:hub"
_METRICS_PREFIX = "opscenter:hub:metrics:"
METRICS_TTL_SECONDS = 60


def metrics_key(hub: str) -> str:
    """Return the Redis key of one hub's counters."""
    return f"{_METRICS_PREFIX}{hub}"


def read_hub_metrics(redis: Redis) -> dict[str, dict[str, float]]:
    """Return the counters of every hub that is alive: hub id -> metric -> value.

    Names look like ``tunnel_sessions{state="ready"}``. Empty when no hub has written for a
    minute.

    Raises:
        redis.exceptions.RedisError: if Redis is away.
    """
    found: dict[str, dict[str, float]] = {}
    for key in redis.scan_iter(match=f"{_METRICS_PREFIX}*", count=100):
        value = redis.get(key)
        if isinstance(value, bytes):  # else it has just expired
            found[key.decode().removeprefix(_METRICS_PREFIX)] = orjson.loads(value)
    return found


class Counters:
    """Counters and gauges of one hub process; touched only on its event loop."""

    def __init__(self) -> None:
        self._totals: Counter[str] = Counter()
        self.started_s = time.time()
        self.loop_lag_seconds = 0.0

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter; ``labels`` become part of its name."""
        self._totals[_series(name, labels)] += amount  # type: ignore[assignment] # floats add up

    def get(self, name: str, **labels: str) -> float:
        """Return a counter's value; 0 when it never counted."""
        return self._totals[_series(name, labels)]

    def snapshot(self, gauges: dict[str, float]) -> dict[str, float]:
        """Return every counter together with the gauges given and those of the process."""
        return {
            **self._totals,
            **gauges,
            "hub_start_time_seconds": self.started_s,
            "hub_loop_lag_seconds": self.loop_lag_seconds,
            **_process_gauges(),
        }


def _series(name: str, labels: dict[str, str]) -> str:
    if not labels:
        return name
    return name + "{" + ",".join(f'{key}="{labels[key]}"' for key in sorted(labels)) + "}"


def _process_gauges() -> dict[str, float]:
    """Return open files and resident memory where /proc exists."""
    proc = Path("/proc/self")
    if not proc.exists():
        return {}
    pages = int((proc / "statm").read_text(encoding="ascii").split()[1])
    return {
        "hub_fds": float(sum(1 for _ in (proc / "fd").iterdir())),
        "hub_rss_bytes": float(pages * os.sysconf("SC_PAGE_SIZE")),
    }
