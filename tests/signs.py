"""The signs of life of a centre whose processes all work, for tests that run none of them."""

from __future__ import annotations

import time

from opscenter.core.heartbeats import redis_client, worker_names, write_heartbeat
from opscenter.core.write_checks import (
    DATABASE,
    HUB,
    METRIC_STORE,
    WriteCheck,
    key_of,
    record_write,
)


def show_life(now: float | None = None) -> None:
    """Leave in Redis what the worker, beat and the hub leave there while all is well."""
    now = time.time() if now is None else now
    for name in {*worker_names(), "worker", "beat", "hub"}:
        write_heartbeat(name, now=now)
    for place in (DATABASE, METRIC_STORE):
        record_write(place, now=now)
    show_hub(WriteCheck(now, now))


def show_hub(check: WriteCheck) -> None:
    """Leave in Redis what the hub says of its own writes."""
    redis_client().set(key_of(HUB), check.serialized())
