"""Live updates through a real Redis: what is published reaches the listeners of the channel
layer."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from channels.layers import get_channel_layer

from opscenter.core.realtime import (
    FLEET_GROUP,
    cluster_group,
    publish,
    publish_user,
    user_group,
)


@pytest.fixture
def layer_in_redis(redis_server, settings):
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_server]},
        }
    }


async def heard_in(group: str, work, *given):
    """Return what a listener of a group hears while work is done by a plain thread."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    await asyncio.to_thread(work, *given)
    async with asyncio.timeout(10):
        return await layer.receive(channel)


@pytest.mark.parametrize("of_the_fleet", [False, True])
async def test_a_change_is_heard_by_pages_of_the_cluster_and_of_the_fleet(
    layer_in_redis, of_the_fleet
):
    cluster = uuid4()
    group = FLEET_GROUP if of_the_fleet else cluster_group(cluster)
    assert await heard_in(group, publish, cluster, "data") == {
        "type": "cluster.changed", "cluster": str(cluster), "what": "data",
    }  # fmt: skip


async def test_a_user_whose_permissions_changed_is_notified(layer_in_redis):
    assert await heard_in(user_group(7), publish_user, 7) == {"type": "user.changed"}


def test_a_redis_that_is_away_costs_a_line_in_the_log_and_no_more(layer_in_redis, settings, caplog):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    publish(uuid4(), "data")
    assert "was not sent" in caplog.text
