"""Tell open pages that something changed: the only sender to the channel layer.

Messages are small and carry no data: the page fetches what it shows again, through the same
checks as any request, so that a socket can never show more than a page.
"""

from __future__ import annotations

import logging
from typing import Literal, TypedDict
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

What = Literal["health", "data", "tunnel", "enrolment", "config"]

FLEET_GROUP = "fleet"  # joined only by users who see every cluster


class ClusterChanged(TypedDict):
    """What sockets receive; ``type`` is the consumer's handler name with dots."""

    type: Literal["cluster.changed"]
    cluster: str
    what: What


def cluster_group(cluster_id: UUID) -> str:
    """Return the channel-layer group of one cluster."""
    return f"cluster.{cluster_id}"


def user_group(user_id: int) -> str:
    """Return the channel-layer group that closes one user's sockets."""
    return f"user.{user_id}"


def publish(cluster_id: UUID, what: What) -> None:
    """Send a change to the open pages now; a lost message costs only freshness.

    A Redis that is away is logged, not raised: the data is already stored, and pages fetch again
    by themselves when their socket comes back.
    """
    message: ClusterChanged = {"type": "cluster.changed", "cluster": str(cluster_id), "what": what}
    layer = get_channel_layer()
    if layer is None:
        return

    async def send() -> None:
        for group in (cluster_group(cluster_id), FLEET_GROUP):
            await layer.group_send(group, dict(message))

    try:
        async_to_sync(send)()  # once for both: each call makes a thread, a loop and a connection
    except (OSError, TimeoutError, RedisError) as exc:
        logger.warning("live update of cluster %s was not sent: %s", cluster_id, exc)


def publish_user(user_id: int) -> None:
    """Have every open page of a user check anew whether it may listen.

    For sign-outs, changed grants and accounts switched off. A lost message costs at most the
    minute until the sockets check by themselves.
    """
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(user_group(user_id), {"type": "user.changed"})
    except (OSError, TimeoutError, RedisError) as exc:
        logger.warning("the pages of user %s were not told to check again: %s", user_id, exc)


def publish_on_commit(cluster_id: UUID, what: What) -> None:
    """Send a change once the surrounding transaction has committed."""
    transaction.on_commit(lambda: publish(cluster_id, what))
