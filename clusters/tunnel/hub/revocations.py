"""Cut the sessions whose key or cluster was revoked.

A message from the web process (:mod:`clusters.tunnel.control`) cuts them at once; every session is
also looked up again from time to time, because messages may be lost.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

import orjson
from django.db import DatabaseError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from clusters.tunnel.control import CHANNEL
from clusters.tunnel.counters import Counters
from clusters.tunnel.hub import session_log
from clusters.tunnel.hub.recorder import DatabaseThread
from clusters.tunnel.hub.sessions import Registry

logger = logging.getLogger(__name__)


class Revocations:
    """Cuts sessions that are no longer permitted."""

    def __init__(
        self, registry: Registry, counters: Counters, database: DatabaseThread, redis: Redis
    ) -> None:
        self._registry = registry
        self._counters = counters
        self._database = database
        self._redis = redis

    async def recheck(self) -> None:
        """Cut sessions whose key or cluster was revoked without this hub being told."""
        sessions = self._registry.sessions()
        if not sessions:
            return
        admitted = await self._database.run(
            session_log.admissions, [one.fingerprint for one in sessions]
        )
        for session in sessions:
            cluster_id, services = admitted.get(session.fingerprint, (None, frozenset()))
            if cluster_id != session.cluster_id:
                self._registry.abort(session, "revoked")
                self._counters.revocations.inc()
                continue
            session.allowed = services
            if session.denied & services and session.state in ("connecting", "ready", "suspect"):
                # SSH has no way to ask for a forward that was refused: the agent offers it again
                # when it dials again, within seconds.
                self._registry.close(session, "a service that it offers is allowed now")

    async def listen(self) -> None:
        """Cut a cluster's sessions the moment the web process revokes it."""
        broken = False
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    await self.recheck()  # what was published while nobody listened
                    broken = False
                    while True:
                        message = await pubsub.get_message(
                            ignore_subscribe_messages=True, timeout=1.0
                        )
                        if message is not None:
                            await self._obey(message["data"])
            except (RedisError, DatabaseError, OSError, TimeoutError) as exc:
                if not broken:
                    logger.warning("revocations arrive late until Redis is back: %s", exc)
                broken = True
                await asyncio.sleep(2)

    async def _obey(self, data: Any) -> None:
        try:
            [(order, cluster)] = orjson.loads(data).items()
            cluster_id = UUID(cluster)
        except (ValueError, AttributeError):
            logger.warning("a message on %s was not understood: %.100r", CHANNEL, data)
            return
        if order != "revoke":
            await self.recheck()
            return
        for session in self._registry.of_cluster(cluster_id):
            self._registry.abort(session, "revoked")
            self._counters.revocations.inc()
