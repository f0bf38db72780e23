"""What belongs to the process that serves, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import sys
from typing import Any

from redis.exceptions import RedisError

from opscenter.core.budgets import flush_refusals
from opscenter.core.database import limit_waits
from opscenter.core.heartbeats import brief_redis_client
from opscenter.web.connections import CONNECTIONS, RESERVED
from opscenter.web.user_sockets import SOCKETS

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 10.0
"""How often a web process adds what it refused to the sums of ``/metrics``."""

SWITCH_SECONDS = 0.0005
"""How long a thread that works may keep the interpreter from the others.

With Python's 5 ms a page, which waits for a database some hundred times, would stand behind a
query's arithmetic for each of them.
"""

_OPEN_FILES = 8192
_OTHER_FILES = 256  # of databases, Redis, logs, libraries


async def lifespan(_: Any, receive: Any, send: Any) -> None:
    """Set what belongs to the process that serves, not to whoever imports the application."""
    flushing: asyncio.Task[None] | None = None
    while (await receive())["type"] == "lifespan.startup":
        limit_waits()
        raise_open_files()
        sys.setswitchinterval(SWITCH_SECONDS)
        flushing = asyncio.create_task(_flush_for_ever())
        await send({"type": "lifespan.startup.complete"})
    if flushing is not None:
        flushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flushing
        await flush()
    await send({"type": "lifespan.shutdown.complete"})


async def flush() -> None:
    """Add what this process has refused to the sums in Redis; next time if Redis is away."""
    try:
        await asyncio.to_thread(flush_refusals, brief_redis_client())
    except RedisError as exc:
        logger.debug("what was refused is counted later: %s", exc)


def raise_open_files() -> None:
    """Let this process hold as many connections as its budgets allow; warn if it cannot."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    needed = CONNECTIONS.total + RESERVED.total + SOCKETS.total + _OTHER_FILES
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < needed:
        logger.warning(
            "this process may open %d files, but its connections may take %d: raise the limit "
            "(ulimit -n)", allowed, needed,
        )  # fmt: skip


async def _flush_for_ever() -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await flush()
