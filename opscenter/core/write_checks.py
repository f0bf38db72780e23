"""Whether what Ops Center records can be stored: the outcome of the last write, kept in Redis.

Not in the database itself: whoever asks wants to know it while that takes no writes. The worker
writes a row to the database and to the metric store every few seconds
(:mod:`opscenter.monitoring.write_checks`); the hub says how its own writes fare.
"""

from __future__ import annotations

import errno
import sqlite3
import time
from dataclasses import asdict, dataclass
from math import inf
from typing import cast

import orjson
from django.conf import settings
from redis.exceptions import RedisError

from opscenter.core.ages import age_seconds
from opscenter.core.heartbeats import brief_redis_client, heartbeat_key, redis_client
from opscenter.core.text import minute_utc

DATABASE, METRIC_STORE, HUB = "database", "metric store", "hub"
KEPT_SECONDS = 3600

_PREFIX = "opscenter:writes:"
_RECENT_SECONDS = 1.0
_NEVER: tuple[float, str] = (-inf, "")
_FULL, _LOCKED, _READ_ONLY = "the disk is full", "it is locked", "it is read-only"
_SQLITE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_BUSY: f"{_LOCKED} by another process",
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_IOERR: "reading or writing the disk fails",
    sqlite3.SQLITE_CORRUPT: "its file is damaged",
    sqlite3.SQLITE_NOTADB: "its file is damaged",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_PERM: "its file cannot be opened",
}
_SLOW = "it takes too long"
_POSTGRES = {"53100": _FULL, "25006": _READ_ONLY, "55P03": _LOCKED, "57014": _SLOW}
_SYSTEM = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: _READ_ONLY,
    errno.ENOENT: "its file was moved or deleted",
    errno.ESTALE: "its file was replaced",
    errno.EMFILE: "no file descriptor is free",
    errno.ENFILE: "no file descriptor is free",
}


class _Recent:
    """When this process asked last, by the monotonic clock, and what was wrong.

    One tuple, so that no thread sees half of another's; two that ask at one moment both ask Redis.
    """

    answer: tuple[float, str] = _NEVER


_recent = _Recent()


@dataclass(frozen=True, slots=True)
class WriteCheck:
    """How the last writes to one place went. Times are Unix seconds."""

    at: float  # when the last one ended
    proven_at: float | None = None  # when the last good one ended
    failing_since: float | None = None  # when the first began that failed; None: the last was good
    error: str = ""  # one short sentence without an address or a name; "" if the last was good

    def serialized(self) -> bytes:
        """Return the text that Redis holds."""
        return orjson.dumps(asdict(self))


def key_of(name: str) -> str:
    """Return the Redis key of a place's last outcome."""
    return f"{_PREFIX}{name}"


def parse(raw: bytes | None) -> WriteCheck | None:
    """Return what Redis holds; None where there is nothing that can be read."""
    try:
        return None if raw is None else WriteCheck(**orjson.loads(raw))
    except (orjson.JSONDecodeError, TypeError):
        return None


def record_write(
    name: str, error: str = "", *, began: float | None = None, now: float | None = None
) -> None:
    """Record that a write to ``name`` ended now, and how.

    Args:
        name: :data:`DATABASE` or :data:`METRIC_STORE`.
        error: why it failed; "" if it was good.
        began: when it began, in Unix seconds; ``now`` if None.
        now: when it ended, in Unix seconds; the current time if None.

    Raises:
        redis.exceptions.RedisError: if Redis does not store it.
    """
    now = time.time() if now is None else now
    check = WriteCheck(at=now, proven_at=now)
    if error:
        before = parse(redis_client().get(key_of(name)))  # type: ignore[arg-type]
        since = before.failing_since if before else None
        check = WriteCheck(
            at=now,
            proven_at=before.proven_at if before else None,
            failing_since=since or (now if began is None else began),
            error=error,
        )
    redis_client().set(key_of(name), check.serialized(), ex=KEPT_SECONDS)


def recording_problem(now: float | None = None) -> str:
    """Return in a sentence what keeps Ops Center from recording what clusters do; "" if nothing is.

    For the reason why nothing newer is known of a cluster: the fault is not the cluster's. A
    failure of writes that nobody has seen lately is none: what tried may be gone, and the fault
    over. The hub is not known to live if its sign is missing, because it is away for longer than
    Redis keeps it, or lies in the future. One request to Redis, at most a second; never raises.

    Args:
        now: Unix time in seconds; the current time if None.
    """
    now = time.time() if now is None else now
    places = {DATABASE: "database", HUB: "database", METRIC_STORE: "metric store"}
    keys = [*map(key_of, places), heartbeat_key(HUB)]
    try:
        *writes, sign = cast("list[bytes | None]", brief_redis_client().mget(keys))
    except RedisError:
        return "Ops Center's Redis does not answer"
    for title, raw in zip(places.values(), writes, strict=True):
        check = parse(raw)
        if check is not None and check.failing_since is not None and is_recent(check.at, now):
            since = minute_utc(check.failing_since)
            return f"Ops Center's {title} takes no writes since {since}: {check.error}"
    return _lifeless_hub(sign, now)


def recent_recording_problem() -> str:
    """Return :func:`recording_problem` of now, asked for at most once a second by this process.

    For what is recorded of one cluster after the other: when the hub is away, of all of them.
    """
    asked_at, problem = _recent.answer
    if time.monotonic() - asked_at >= _RECENT_SECONDS:
        problem = recording_problem()
        _recent.answer = time.monotonic(), problem
    return problem


def forget_recent_problem() -> None:
    """Let the next :func:`recent_recording_problem` ask Redis."""
    _recent.answer = _NEVER


def _lifeless_hub(sign: bytes | None, now: float) -> str:
    """Return that the hub is not known to live; "" if it is."""
    if sign is None:
        return "Ops Center's hub shows no life"
    at = float(sign)
    age = age_seconds(at, now)
    if age is None:
        return "Ops Center's hub shows no life: its last sign lies in the future"
    if age <= 2 * settings.HEARTBEAT_SECONDS:
        return ""
    return f"Ops Center's hub shows no life since {minute_utc(at)}"


def is_recent(at: float | None, now: float) -> bool:
    """Return whether an outcome is recent: one beat later than a heartbeat, whose lack explains it.

    Args:
        at: when it was recorded, in Unix seconds; None for never.
        now: Unix time in seconds.
    """
    age = age_seconds(at, now)
    return age is not None and age <= settings.HEARTBEAT_LIMIT_SECONDS + settings.HEARTBEAT_SECONDS


def refusal(exc: BaseException) -> str:
    """Return why a write was refused, in words that anybody may read: no path, no address."""
    cause: BaseException | None = exc
    while cause is not None:
        if said := _said(cause):
            return said
        cause = cause.__cause__
    return "the log says why"


def _said(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return _SLOW
    code = getattr(exc, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _SQLITE.get(code & 0xFF, "")
    if state := getattr(exc, "sqlstate", None):
        return _POSTGRES.get(state, "")
    return _SYSTEM.get(exc.errno or 0, "") if isinstance(exc, OSError) else ""
