"""Tell the hub that a permission ended, so that it cuts the tunnel now, not at its next check.

The message is only faster, never needed: the hub looks up its sessions' keys again every 30 s, and
whenever its connection to Redis comes back.
"""

from __future__ import annotations

import logging
from typing import Literal
from uuid import UUID

import orjson
from django.db import transaction
from redis.exceptions import RedisError

from opscenter.core.heartbeats import redis_client

logger = logging.getLogger(__name__)

CHANNEL = "opscenter:hub"

Order = Literal["revoke", "recheck"]


def order_on_commit(order: Order, cluster_id: UUID) -> None:
    """Send an order to every hub once the surrounding transaction has committed.

    Args:
        order: ``revoke`` cuts the cluster's sessions; ``recheck`` cuts those whose key is not
            active any more, and lets agents dial anew whose refused service is allowed now.
        cluster_id: the cluster whose sessions are meant.
    """
    transaction.on_commit(lambda: _send(order, cluster_id))


def _send(order: Order, cluster_id: UUID) -> None:
    try:
        redis_client().publish(CHANNEL, orjson.dumps({order: str(cluster_id)}))
    except RedisError as exc:
        logger.warning("the hub learns of cluster %s at its next check: %s", cluster_id, exc)
