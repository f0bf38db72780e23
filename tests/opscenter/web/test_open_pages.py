"""Open pages are looked after by time, not only when somebody tells them something."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.db import connection, connections
from django.test import Client

from clusters.models import ClusterStatus
from opscenter.asgi import application
from opscenter.core.heartbeats import write_heartbeat
from opscenter.web import consumers, open_pages
from opscenter.web.open_pages import take_look
from tests.factories import ClusterFactory, UserFactory, grant, healthy
from tests.opscenter.web.websocket import Socket
from tests.signs import show_life

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = django_settings.TRUSTED_ORIGINS[0].encode()


@pytest.fixture
def clusters(db):
    """Make two clusters that report now."""
    return [ClusterFactory(name=name, **healthy(datetime.now(UTC))) for name in ("a", "b")]


@pytest.fixture
def operator_cookie(db):
    return cookie_of(UserFactory(username="operator", groups=["operators"]))


@pytest.fixture
def viewer_cookie(db, clusters):
    viewer = UserFactory(username="viewer")
    grant(viewer, "view_cluster", clusters[0])
    return cookie_of(viewer)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch):
    monkeypatch.setattr(open_pages, "LOOK_SECONDS", 0.2)


def cookie_of(user) -> bytes:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return f"opscenter={client.cookies['opscenter'].value}".encode()


async def listen(path: str, cookie: bytes) -> Socket:
    socket = Socket(application, path, [(b"cookie", cookie), (b"origin", ORIGIN)])
    assert await socket.connect()
    return socket


async def hear(socket: Socket, kind: str) -> dict:
    """Return the next message of a kind."""
    async with asyncio.timeout(20):
        while True:
            message = orjson.loads(await socket.text())
            if message["type"] == kind:
                return message


def forget(cluster) -> None:
    """Let a cluster's last signs be of ten minutes ago, as if nobody had worked since."""
    ago = datetime.now(UTC) - timedelta(minutes=10)
    ClusterStatus.objects.filter(cluster=cluster).update(
        tunnel_seen_at=ago, last_pull_at=ago, last_pull_ok_at=ago, data_as_of=ago
    )


@pytest.mark.parametrize("path", ["/ws/fleet/", "/ws/clusters/{}/"])
async def test_a_page_hears_of_a_change_that_nobody_published(
    redis_server, clusters, operator_cookie, path
):
    await sync_to_async(show_life)()
    socket = await listen(path.format(clusters[1].pk), operator_cookie)
    await hear(socket, "hello")
    await sync_to_async(forget)(clusters[1])
    assert await hear(socket, "changed") == {
        "type": "changed", "cluster": str(clusters[1].pk), "what": "health",
    }  # fmt: skip
    await socket.disconnect()


async def test_a_viewer_hears_only_of_changes_of_clusters_that_are_granted(
    redis_server, clusters, viewer_cookie, operator_cookie
):
    await sync_to_async(show_life)()
    everything = await listen("/ws/fleet/", operator_cookie)
    own = await listen("/ws/fleet/", viewer_cookie)
    for socket in (everything, own):
        await hear(socket, "hello")
    await sync_to_async(forget)(clusters[1])
    assert (await hear(everything, "changed"))["cluster"] == str(clusters[1].pk)
    await sync_to_async(forget)(clusters[0])
    assert (await hear(own, "changed"))["cluster"] == str(clusters[0].pk)
    for socket in (everything, own):
        await socket.disconnect()


async def test_the_hello_says_that_everything_works(redis_server, operator_cookie):
    await sync_to_async(show_life)()
    socket = await listen("/ws/fleet/", operator_cookie)
    hello = await hear(socket, "hello")
    assert (hello["missing_parts"], hello["problem"]) == ({}, "")
    assert abs(hello["as_of"] - time.time()) < 60
    await socket.disconnect()


async def test_a_part_that_is_away_is_told_at_once_and_not_at_the_next_beat(
    redis_server, operator_cookie
):
    await sync_to_async(show_life)()
    socket = await listen("/ws/fleet/", operator_cookie)
    await hear(socket, "hello")
    await sync_to_async(write_heartbeat)("hub", now=time.time() - 75)
    beat = await hear(socket, "beat")
    assert list(beat["missing_parts"]) == ["hub"]
    assert beat["problem"].startswith("The hub: no heartbeat for 7")
    await sync_to_async(write_heartbeat)("hub")
    assert (await hear(socket, "beat"))["missing_parts"] == {}
    await socket.disconnect()


def rename(table: str, to: str) -> None:
    """Take a table away, or bring it back."""
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{table}" RENAME TO "{to}"')


async def test_clusters_that_cannot_be_read_are_not_told_to_be_judged_now(
    redis_server, clusters, operator_cookie
):
    await sync_to_async(show_life)()
    socket = await listen("/ws/fleet/", operator_cookie)
    await hear(socket, "hello")
    await sync_to_async(rename)("clusters_clusterstatus", "away")
    broken_at = time.time()
    try:
        while "database" not in (beat := await hear(socket, "beat"))["missing_parts"]:
            pass
    finally:
        await sync_to_async(rename)("away", "clusters_clusterstatus")
    assert beat["as_of"] <= broken_at
    await socket.disconnect()


@pytest.fixture
def through_redis(redis_server, settings) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_server]},
        }
    }


async def test_a_page_without_redis_is_closed_so_that_it_asks_by_itself(
    through_redis, redis_server, settings, tmp_path, operator_cookie
):
    await sync_to_async(show_life)()
    socket = await listen("/ws/fleet/", operator_cookie)
    await hear(socket, "hello")
    settings.REDIS_URL = f"unix://{tmp_path}/away.sock"
    async with asyncio.timeout(20):
        while (message := await socket.receive_output(10))["type"] != "websocket.close":
            pass
    assert message["code"] == consumers.BROKEN
    await socket.disconnect()


async def test_a_page_that_opens_without_redis_is_refused_and_leaves_nothing(
    through_redis, redis_server, settings, tmp_path, operator_cookie
):
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [f"unix://{tmp_path}/away.sock"]},
        }
    }
    socket = Socket(application, "/ws/fleet/", [(b"cookie", operator_cookie), (b"origin", ORIGIN)])
    await socket.send_input({"type": "websocket.connect"})
    async with asyncio.timeout(30):
        assert (await socket.receive_output(30))["type"] == "websocket.close"
        await socket.wait(10)
    assert not open_pages.open_pages()._pages


async def test_the_looking_ends_with_the_last_page(redis_server, operator_cookie):
    await sync_to_async(show_life)()
    socket = await listen("/ws/fleet/", operator_cookie)
    await hear(socket, "hello")
    pages = open_pages.open_pages()
    assert pages._task is not None
    await socket.disconnect()
    assert (pages._task, pages._pages) == (None, set())


async def test_a_page_is_told_when_nobody_looks_any_more(redis_server, monkeypatch):
    pages = open_pages.OpenPages()
    assert "web" in pages.known_missing()
    pages._last = open_pages.Look(time.time())
    assert pages.known_missing() == {}
    pages._last = open_pages.Look(time.time() + 7200)
    assert "web" in pages.known_missing()


def test_one_look_costs_one_query_for_the_clusters_however_many_there_are(
    redis_server, clusters, django_assert_num_queries
):
    # Three ask whether the database answers, pulls go on, and the store is ours.
    with django_assert_num_queries(4):
        look = take_look(None)
    assert set(look.states) == {cluster.pk for cluster in clusters}
    with django_assert_num_queries(4):
        assert set(take_look({clusters[0].pk}).states) == {clusters[0].pk}


async def test_sockets_leave_no_connection_to_the_database_behind(redis_server, operator_cookie):
    await sync_to_async(show_life)()

    def is_open() -> bool:
        return connection.connection is not None

    socket = await listen("/ws/fleet/", operator_cookie)
    await hear(socket, "hello")
    assert connections.settings["default"]["CONN_MAX_AGE"] == 0
    assert not await sync_to_async(is_open)()
    await socket.disconnect()
