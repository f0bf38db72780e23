"""Tell open pages that something changed: the only sender to the channel layer.

Messages are small and carry no data: the page fetches what it shows again, through the same
checks as any request, so that a socket can never show more than a page.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, TypedDict
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.db import transaction
from redis.exceptions import RedisError

from opscenter.core.heartbeats import redis_client

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


def needs_redis() -> bool:
    """Return whether messages go through Redis, and are lost without it."""
    return isinstance(get_channel_layer(), RedisPubSubChannelLayer)


def publish(cluster_id: UUID, what: What) -> None:
    """Send a change to the open pages now; a lost message costs only freshness.

    A Redis that is away is logged, not raised: the data is already stored, and pages fetch again
    by themselves when their socket comes back.
    """
    message: ClusterChanged = {"type": "cluster.changed", "cluster": str(cluster_id), "what": what}
    try:
        _send(message, cluster_group(cluster_id), FLEET_GROUP)
    except (OSError, TimeoutError, RedisError) as exc:
        logger.warning("live update of cluster %s was not sent: %s", cluster_id, exc)


def publish_user(user_id: int) -> None:
    """Make every open page of a user check again whether it may listen.

    For sign-outs, changed grants and deactivated accounts. A lost message costs at most the minute
    until the sockets check by themselves.
    """
    try:
        _send({"type": "user.changed"}, user_group(user_id))
    except (OSError, TimeoutError, RedisError) as exc:
        logger.warning("the pages of user %s were not told to check again: %s", user_id, exc)


def publish_on_commit(cluster_id: UUID, what: What) -> None:
    """Send a change once the surrounding transaction has committed."""
    transaction.on_commit(lambda: publish(cluster_id, what))


def _send(message: Mapping[str, object], *groups: str) -> None:
    """Send a message to groups.

    Through Redis it goes as the layer's ``group_send`` sends it, over this process's own
    connections: ``async_to_sync`` would make a thread, an event loop and a connection for each
    call of a worker.
    """
    layer = get_channel_layer()
    if isinstance(layer, RedisPubSubChannelLayer):
        with redis_client().pipeline(transaction=False) as pipeline:
            for group in groups:
                pipeline.publish(f"asgi__group__{group}", layer.serialize(dict(message)))
            pipeline.execute()
    elif layer is not None:
        for group in groups:
            async_to_sync(layer.group_send)(group, dict(message))
