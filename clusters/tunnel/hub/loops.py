"""What the hub does again and again, and how that ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from django.db import DatabaseError
from prometheus_client import Gauge
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

_LAG_SECONDS = 0.5
_CANCEL_AGAIN_SECONDS = 0.5


async def repeat(seconds: float, step: Callable[[], Awaitable[None]]) -> None:
    """Run a step again and again; while the database or Redis is away, steps are only skipped."""
    broken = False
    while True:
        try:
            await step()
            if broken:
                logger.info("%s works again", step.__name__.strip("_"))
            broken = False
        except (RedisError, DatabaseError, OSError, TimeoutError) as exc:
            if not broken:
                logger.error("%s failed and is tried again: %s", step.__name__.strip("_"), exc)
            broken = True
        except Exception:
            logger.exception("%s failed", step.__name__.strip("_"))
            broken = True
        await asyncio.sleep(seconds)


async def measure_lag(gauge: Gauge) -> None:
    """Keep the worst delay of the loop over about the last minute, in seconds."""
    worst = 0.0
    while True:
        before = time.monotonic()
        await asyncio.sleep(_LAG_SECONDS)
        worst = max(time.monotonic() - before - _LAG_SECONDS, worst * 0.98)
        gauge.set(worst)


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are over.

    Once may not be enough: what they wait for can swallow it, as a connection to Redis does while
    it is made or dropped.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("a loop of the hub had failed: %s", error, exc_info=error)
