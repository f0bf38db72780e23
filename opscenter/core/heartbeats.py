"""Heartbeats of the processes, stored in Redis as Unix times.

Worker and beat write theirs by a task that went from beat through Redis to the worker
(:mod:`opscenter.tasks`), the hub writes its own. A process that exists but does nothing is then as
visible as one that is gone. ``worker`` stands for any worker; of several, each writes its own as
well, by a queue that only it consumes.
"""

from __future__ import annotations

import time
from functools import cache

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_PREFIX = "opscenter:heartbeat:"


@cache
def _connect(url: str) -> Redis:
    """Return this process's client for ``url``; its time-outs bound every call."""
    return Redis.from_url(url, socket_timeout=5, socket_connect_timeout=3)


@cache
def _connect_briefly(url: str) -> Redis:
    """Return this process's client for a page that must not wait for a Redis that hangs."""
    return Redis.from_url(
        url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )


def worker_names() -> tuple[str, ...]:
    """Return the names of a machine's worker processes: ``worker``; of several ``worker-1``..."""
    count: int = settings.WORKER_PROCESSES
    return ("worker",) if count == 1 else tuple(f"worker-{at}" for at in range(1, count + 1))


def heartbeat_queue(worker: str) -> str:
    """Return the queue whose tasks show that this worker process works."""
    return "heartbeat" if worker == "worker" else f"heartbeat.{worker}"


def redis_client() -> Redis:
    """Return a shared Redis client whose calls take at most five seconds."""
    return _connect(settings.REDIS_URL)


def brief_redis_client() -> Redis:
    """Return a shared Redis client that tries once and waits for at most a second."""
    return _connect_briefly(settings.REDIS_URL)


def heartbeat_key(name: str) -> str:
    """Return the Redis key of a process's heartbeat."""
    return f"{_PREFIX}{name}"


def write_heartbeat(name: str, *, now: float | None = None) -> None:
    """Record that process ``name`` works at ``now`` (Unix seconds; the current time if None).

    Raises:
        redis.exceptions.RedisError: if Redis does not store it.
    """
    redis_client().set(heartbeat_key(name), repr(time.time() if now is None else now), ex=3600)


def read_heartbeats(names: tuple[str, ...]) -> dict[str, float | None]:
    """Return the last heartbeat of each name in Unix seconds; None where there is none.

    Raises:
        redis.exceptions.RedisError: if Redis does not answer.
    """
    values = redis_client().mget([heartbeat_key(name) for name in names])
    return {
        name: None if raw is None else float(raw) for name, raw in zip(names, values, strict=True)
    }
