"""When API tokens were last used: noted in Redis by the web process, written by a worker.

So a request with a token reads the database only, and is answered while that takes no writes.
Without Redis the use is not recorded: it is for whoever looks through the tokens, and no reason
to refuse a request. Redis keeps the latest use of each token; nothing is lost between two writes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

import redis
from django.conf import settings
from django.core.cache import cache

from clusters.models import ApiToken
from opscenter.core.database import log_left_out

STEP_SECONDS = 60
_KEY = "opscenter:tokens:used"
_WAIT_SECONDS = 0.5  # a request waits for it, at most once a minute


def note_use(token: ApiToken, now: datetime) -> None:
    """Note that a token is used, at most once a minute; never raises for a Redis that is away."""
    if not cache.add(f"token-used:{token.pk}", True, STEP_SECONDS):  # noqa: FBT003 - any value
        return
    try:
        _client(settings.REDIS_URL).hset(_KEY, token.pk, repr(now.timestamp()))
    except redis.RedisError as exc:
        log_left_out("when API tokens were used", exc)


def write_uses(now: datetime) -> int:
    """Write what was noted, and delete the tokens that have expired.

    Args:
        now: the current time, aware.

    Returns:
        How many tokens have a later use than before.

    Raises:
        redis.RedisError: if Redis is away.
    """
    ApiToken.objects.filter(expiry__lt=now).delete()
    client = _client(settings.REDIS_URL)
    noted = {
        cast("bytes", pk).decode(): datetime.fromtimestamp(float(at), UTC)
        for pk, at in client.hgetall(_KEY).items()
    }
    tokens = list(ApiToken.objects.filter(pk__in=noted))
    later = [one for one in tokens if one.last_used_at is None or one.last_used_at < noted[one.pk]]
    for token in later:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=noted[token.pk])
    if gone := noted.keys() - {one.pk for one in tokens}:
        client.hdel(_KEY, *gone)
    return len(later)


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    """Return this process's client, whose calls take a second at most."""
    return redis.Redis.from_url(
        url, socket_timeout=_WAIT_SECONDS, socket_connect_timeout=_WAIT_SECONDS
    )
