"""What has to work for Ops Center to be ready, and which parts do not."""

from __future__ import annotations

import logging
import time

from django.conf import settings
from django.db import DatabaseError, connection
from redis.exceptions import RedisError

from metrics.stores import StoreError, get_store
from opscenter.core.heartbeats import read_heartbeats, worker_names

_STORE_REASONS = {
    "sqlite": "cannot be read",
    "influxdb": "InfluxDB does not answer or refuses us; the log says why",
}

logger = logging.getLogger(__name__)


def heartbeat_names() -> tuple[str, ...]:
    """Return the processes that write a heartbeat."""
    return (*worker_names(), "beat", "hub")


def heartbeat_ages(now: float) -> dict[str, float | None]:
    """Return the seconds since each process's last heartbeat; None where there is none.

    Raises:
        redis.exceptions.RedisError: if Redis does not answer.
    """
    return {
        name: None if at is None else max(0.0, now - at)
        for name, at in read_heartbeats(heartbeat_names()).items()
    }


def missing_parts(now: float | None = None) -> dict[str, str]:
    """Return what is not working, each with the reason; empty when everything does.

    Costs one round trip to Redis, one to the database and one read of the metric store. The
    reasons name no address and no secret: anybody may read them.
    """
    missing = {}
    try:
        ages = heartbeat_ages(time.time() if now is None else now)
    except (RedisError, OSError):
        missing["redis"] = "does not answer"
        missing |= dict.fromkeys(heartbeat_names(), "not known without Redis")
    else:
        missing |= {name: reason for name, age in ages.items() if (reason := _overdue(age))}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        missing["database"] = "does not answer"
    try:
        get_store().ping()
    except (StoreError, OSError) as exc:
        logger.warning("the metric store is not ready: %s", exc)
        missing["metric store"] = _STORE_REASONS[settings.METRICS_STORE]
    return missing


def warnings() -> list[str]:
    """Return what somebody should check although everything works; usually nothing.

    One small read of the metric store; nothing while it cannot be read: then :func:`missing_parts`
    names it.
    """
    try:
        return [f"metric store: {line}" for line in get_store().warnings()]
    except (StoreError, OSError) as exc:
        logger.warning("the metric store cannot say how it is: %s", exc)
        return []


def _overdue(age_seconds: float | None) -> str:
    if age_seconds is None:
        return "no heartbeat yet"
    if age_seconds > settings.HEARTBEAT_LIMIT_SECONDS:
        return f"no heartbeat for {age_seconds:.0f} s"
    return ""
