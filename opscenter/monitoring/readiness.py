"""What has to work for Ops Center to be ready, and which parts do not."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import cast

from django.conf import settings
from django.db import DatabaseError
from redis.exceptions import RedisError

from clusters.tunnel.counters import UNKNOWN_PROXY_KEY
from metrics.pulling.status import idle_seconds
from metrics.stores import StoreError, get_store
from opscenter.core import disk
from opscenter.core.ages import age_seconds
from opscenter.core.heartbeats import brief_redis_client, read_heartbeats
from opscenter.core.shards import shard_paths
from opscenter.models import WriteProof
from opscenter.monitoring import signs
from opscenter.monitoring.installation import metric_store_problem
from opscenter.monitoring.signs import DATABASE_WRITES, METRIC_STORE_WRITES, heartbeat_names
from opscenter.monitoring.write_checks import database_path

STARTED_AT = time.time()
"""When this web process, and with it the centre of one machine, started: Unix seconds."""
DISK, PULLS = "disk space", "pulls"
_PROXY_SEEN_SECONDS = 600.0  # how long a proxy that the hub does not trust is spoken of
_STORE_REASONS = {
    "sqlite": "cannot be read",
    "influxdb": "InfluxDB does not answer or refuses us; the log says why",
}
# How a sentence for people begins, the worst first: a database that is full silences the others.
_SUBJECTS = {
    DATABASE_WRITES: "Ops Center's database",
    METRIC_STORE_WRITES: "Ops Center's metric store",
    DISK: "Ops Center's disk",
    "redis": "Redis",
    "database": "Ops Center's database",
    "metric store": "Ops Center's metric store",
    "hub": "the hub",
    "worker": "the worker",
    "beat": "beat",
    PULLS: "Ops Center",
}

logger = logging.getLogger(__name__)


def heartbeat_ages(now: float) -> dict[str, float | None]:
    """Return the seconds since each process's last heartbeat; None where that is not known.

    Raises:
        redis.exceptions.RedisError: if Redis does not answer.
    """
    return {name: age_seconds(at, now) for name, at in read_heartbeats(heartbeat_names()).items()}


def part_names() -> tuple[str, ...]:
    """Return everything that :func:`missing_parts` may name."""
    return ("redis", "database", "metric store", DISK, PULLS, *signs.part_names())


def missing_parts(now: float | None = None) -> dict[str, str]:
    """Return what is not proven to work, each with the reason; empty when everything is.

    Costs one round trip to Redis, three to the database and one read of every place of the
    metric store. The reasons name no address and no secret: anybody may read them.
    """
    now = time.time() if now is None else now
    missing = unproven_parts(now)
    try:
        WriteProof.objects.values_list("at").first()  # "SELECT 1" would read no page of the file
        missing |= _idle(now)
    except DatabaseError:
        missing["database"] = "does not answer"
    try:
        get_store().ping()
        if "database" not in missing and (problem := metric_store_problem()):
            missing["metric store"] = problem
    except (StoreError, OSError) as exc:
        logger.warning("the metric store is not ready: %s", exc)
        missing["metric store"] = _STORE_REASONS[settings.METRICS_STORE]
    except DatabaseError:
        missing["database"] = "does not answer"
    return missing


def unproven_parts(now: float | None = None) -> dict[str, str]:
    """Return what the signs in Redis and the disk leave unproven; touches no database."""
    now = time.time() if now is None else now
    try:
        missing = signs.unproven(signs.read_signs(), now)
    except (RedisError, OSError, ValueError):
        missing = {"redis": "does not answer"}
        missing |= dict.fromkeys(signs.part_names(), "not known without Redis")
    free = free_bytes()
    if free is None or free < disk.NEEDED_BYTES:
        missing[DISK] = "cannot be read" if free is None else "is full"
    return missing


def centre_problem(now: datetime | float | None = None) -> str:
    """Return in one sentence what keeps Ops Center from knowing its clusters; "" if proven fine.

    Cheap (one request to Redis, no database) and never raises: for the top of every page. What is
    not proven is a problem too, and said so.

    Args:
        now: an aware time or Unix seconds; the current time if None.
    """
    try:
        at = now.timestamp() if isinstance(now, datetime) else now
        return problem_of(unproven_parts(at))
    except Exception:
        logger.exception("whether Ops Center works cannot be found out")
        return "It is not known whether Ops Center works; its log says why"


def pulls_problem(now: datetime) -> str:
    """Return in one sentence that no cluster is pulled; "" if one is. One query.

    Args:
        now: an aware time.
    """
    return problem_of(_idle(now.timestamp()))


def _idle(now: float) -> dict[str, str]:
    """Return whether pulls go on: each process may show life while together they do nothing."""
    idle = idle_seconds(now, STARTED_AT)
    return {} if idle is None else {PULLS: f"has pulled no cluster for {idle:.0f} s"}


def problem_of(missing: Mapping[str, str]) -> str:
    """Return missing parts as a sentence without a full stop; "" if none is missing."""
    known = {name: reason for name, reason in missing.items() if not reason.startswith("not known")}
    order = list(_SUBJECTS)
    said = [
        f"{_SUBJECTS.get(name, name)}{' ' if _is_verb(reason) else ': '}{reason}"
        for name, reason in sorted(
            known.items(), key=lambda part: order.index(part[0]) if part[0] in order else len(order)
        )
    ]
    text = "; ".join(said) or "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    return text[:1].upper() + text[1:]


def warnings() -> list[str]:
    """Return what somebody should check although everything works; usually nothing.

    One small read of the metric store; nothing while it cannot be read: then :func:`missing_parts`
    names it.
    """
    found = disk_warnings() + proxy_warnings()
    try:
        return found + [f"metric store: {line}" for line in get_store().warnings()]
    except (StoreError, OSError) as exc:
        logger.warning("the metric store cannot say how it is: %s", exc)
        return found


def disk_warnings() -> list[str]:
    """Return one line if there is little room where data is stored."""
    free = free_bytes()
    if free is None or free >= settings.FREE_SPACE_WARNING_BYTES:
        return []
    return [f"{DISK}: {free / 1e6:,.0f} MB are free where Ops Center stores its data"]


def proxy_warnings(now: float | None = None) -> list[str]:
    """Return one line if agents come through a proxy that the hub does not trust.

    Nothing while Redis is away: then :func:`missing_parts` names it.

    Args:
        now: Unix time in seconds; the current time if None.
    """
    try:
        raw = cast("bytes | None", brief_redis_client().get(UNKNOWN_PROXY_KEY))
    except RedisError:
        return []
    age = None if raw is None else age_seconds(float(raw), time.time() if now is None else now)
    if age is None or age > _PROXY_SEEN_SECONDS:
        return []
    return [
        "hub: X-Forwarded-For arrives from a proxy that OPSCENTER_HUB_TRUSTED_PROXIES does not"
        " name, so all agents behind it share the limits of one address; the hub's log names it"
    ]


def free_bytes() -> int | None:
    """Return the free bytes of the fullest disk that holds our data; None if one is not known."""
    try:
        return min(map(disk.free_bytes, _directories()))
    except OSError as exc:
        logger.warning("free space is not known: %s", exc)
        return None


def _directories() -> set[Path]:
    """Return the data directory, and those that the files of databases are really in."""
    files = [database_path()]
    if settings.METRICS_STORE == "sqlite":
        files += shard_paths(Path(settings.METRICS_SQLITE_PATH), settings.METRICS_SHARDS)
    where = {path.resolve().parent for path in files if path is not None}
    return {Path(settings.DATA_DIR), *where}


def _is_verb(reason: str) -> bool:
    """Return whether a reason continues a sentence whose subject is the part."""
    return reason.split(" ", 1)[0] in ("takes", "is", "does", "cannot", "has")
