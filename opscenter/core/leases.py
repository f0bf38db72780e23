"""Leases in Redis: at most one worker at a time does a thing, and none keeps it for ever.

``SET NX PX`` with a random token; only the holder's token releases it. A lease that ran out while
its holder was still at work is logged: what leases guard here is idempotent, so it costs work, not
data.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import redis
from django.conf import settings

from opscenter.core.errors import OpsCenterError

logger = logging.getLogger(__name__)

_PREFIX = "opscenter:lease:"
_POLL_SECONDS = 0.05
_RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""


class LeaseTimeoutError(OpsCenterError):
    """Another holder kept a lease for longer than the caller could wait."""

    code = "lease_timeout"
    http_status = 503


@contextmanager
def hold(name: str, ttl_seconds: float) -> Iterator[bool]:
    """Yield whether this caller holds the lease ``name``; give it back at the end.

    Args:
        name: what is guarded.
        ttl_seconds: after which it is free again whatever happened to the holder.

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
    client, token = _client(settings.REDIS_URL), secrets.token_hex(16)
    held = next((name for name in names if _take(client, name, token, ttl_seconds)), None)
    try:
        yield held
    finally:
        if held is not None:
            _give_back(client, held, token, ttl_seconds)


@contextmanager
def wait_for(name: str, ttl_seconds: float, *, timeout_seconds: float) -> Iterator[None]:
    """Hold the lease ``name``, waiting for another holder to give it back.

    Raises:
        LeaseTimeoutError: if it did not come free in time.
        redis.RedisError: if Redis cannot be asked.
    """
    client, token = _client(settings.REDIS_URL), secrets.token_hex(16)
    give_up_at = time.monotonic() + timeout_seconds
    while not _take(client, name, token, ttl_seconds):
        if time.monotonic() >= give_up_at:
            msg = f"the lease {name} was not free within {timeout_seconds:g} s"
            raise LeaseTimeoutError(msg)
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        _give_back(client, name, token, ttl_seconds)


def _take(client: redis.Redis, name: str, token: str, ttl_seconds: float) -> bool:
    return bool(client.set(_PREFIX + name, token, nx=True, px=max(1, round(ttl_seconds * 1000))))


def _give_back(client: redis.Redis, name: str, token: str, ttl_seconds: float) -> None:
    """Delete the lease if it is still ours; otherwise say that it was lost.

    A Redis that is away is logged only: the lease runs out by itself.
    """
    try:
        ours = client.eval(_RELEASE, 1, _PREFIX + name, token)
    except redis.RedisError as exc:
        logger.warning("the lease %s was not given back: %s", name, exc)
        return
    if not ours:
        logger.warning("the lease %s was lost: the work took more than %g s", name, ttl_seconds)


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    """Return this process's client; its pool may be used by all threads."""
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
