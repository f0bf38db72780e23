"""Leases in Redis: at most one worker at a time does a thing, and none holds it for ever.

A lease is redis-py's ``Lock`` with a time-out: only the holder's token releases it. A lease that
ran out while its holder was still at work is logged: what leases guard here is idempotent, so it
costs work, not data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import redis
from django.conf import settings
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from opscenter.core.errors import OpsCenterError

logger = logging.getLogger(__name__)

_PREFIX = "opscenter:lease:"
_POLL_SECONDS = 0.05


class LeaseTimeoutError(OpsCenterError):
    """Another holder held a lease for longer than the caller could wait."""

    code = "lease_timeout"
    http_status = 503


@contextmanager
def hold(name: str, ttl_seconds: float) -> Iterator[bool]:
    """Yield whether this caller holds the lease ``name``; release it at the end.

    Args:
        name: name of what is guarded.
        ttl_seconds: seconds until it is free again even if the holder died.

    Raises:
        redis.RedisError: if Redis cannot be asked.
    """
    with hold_any([name], ttl_seconds) as held:
        yield held is not None


@contextmanager
def hold_any(names: Sequence[str], ttl_seconds: float) -> Iterator[str | None]:
    """Yield the first of ``names`` that is free, held by this caller; None if all are taken.

    Raises:
        redis.RedisError: if Redis cannot be asked.
    """
    locks = {name: _lock(name, ttl_seconds) for name in names}
    held = next((name for name, lock in locks.items() if lock.acquire()), None)
    try:
        yield held
    finally:
        if held is not None:
            _give_back(locks[held], held, ttl_seconds)


@contextmanager
def wait_for(name: str, ttl_seconds: float, *, timeout_seconds: float) -> Iterator[None]:
    """Hold the lease ``name``, waiting for another holder to release it.

    Raises:
        LeaseTimeoutError: if it was not released in time.
        redis.RedisError: if Redis cannot be asked.
    """
    lock = _lock(name, ttl_seconds)
    if not lock.acquire(blocking=True, blocking_timeout=timeout_seconds):
        msg = f"the lease {name} was not free within {timeout_seconds:g} s"
        raise LeaseTimeoutError(msg)
    try:
        yield
    finally:
        _give_back(lock, name, ttl_seconds)


def _lock(name: str, ttl_seconds: float) -> Lock:
    """Return one caller's lock, which waits only if asked to.

    It is not shared, so its token stays valid in whichever thread the caller ends.
    """
    return Lock(
        _client(settings.REDIS_URL),
        _PREFIX + name,
        timeout=max(0.001, ttl_seconds),  # redis-py takes 0 for "never runs out"
        sleep=_POLL_SECONDS,
        blocking=False,
        thread_local=False,
    )


def _give_back(lock: Lock, name: str, ttl_seconds: float) -> None:
    """Delete the lease if it is still ours; otherwise log that it was lost.

    A Redis that is away is logged only: the lease runs out by itself.
    """
    try:
        lock.release()
    except LockNotOwnedError:
        logger.warning("the lease %s was lost: the work took more than %g s", name, ttl_seconds)
    except redis.RedisError as exc:
        logger.warning("the lease %s was not given back: %s", name, exc)


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    """Return this process's client; its pool may be used by all threads."""
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
