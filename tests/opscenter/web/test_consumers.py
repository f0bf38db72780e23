"""The sockets: who may listen, to what, until when."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import orjson
import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from uvicorn.protocols.utils import ClientDisconnected

from clusters.models import Cluster
from opscenter.asgi import application
from opscenter.core.budgets import Slots
from opscenter.core.realtime import FLEET_GROUP, cluster_group, user_group
from opscenter.web import consumers
from opscenter.web.consumers import FleetConsumer
from opscenter.web.user_sockets import UserSockets
from tests.factories import ClusterFactory, CustomerFactory, UserFactory, grant, healthy
from tests.opscenter.web.websocket import Socket

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = settings.TRUSTED_ORIGINS[0].encode()


@pytest.fixture
def cast(db):
    """Make the cast here: async tests cannot ask for fixtures that touch the database."""
    customer = CustomerFactory(name="Northwind")
    viewer = UserFactory(username="viewer")
    grant(viewer, "view_customer", customer)
    return SimpleNamespace(
        operator=UserFactory(username="operator", groups=["operators"]),
        viewer=viewer,
        stranger=UserFactory(username="stranger"),
        anonymous=None,
        cluster=ClusterFactory(name="north-1", customer=customer, **healthy()),
        foreign=ClusterFactory(name="south-1", **healthy()),
    )


def cookie_of(user: User | None) -> bytes:
    if user is None:
        return b""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    name = settings.SESSION_COOKIE_NAME
    return f"{name}={client.cookies[name].value}".encode()


async def listen(path: str, user: User | None, origin: bytes | None = ORIGIN):
    headers = [(b"cookie", await sync_to_async(cookie_of)(user))]
    if origin is not None:
        headers.append((b"origin", origin))
    socket = Socket(application, path, headers)
    return socket, await socket.connect()


async def hear(socket) -> dict:
    return orjson.loads(await socket.text())


async def closing_code(socket) -> int:
    while True:
        message = await socket.receive_output(timeout=10)
        if message["type"] == "websocket.close":
            return int(message["code"])


async def tell(group: str, cluster: Cluster, what: str = "data") -> None:
    message = {"type": "cluster.changed", "cluster": str(cluster.pk), "what": what}
    await get_channel_layer().group_send(group, message)


@pytest.mark.parametrize(
    "origin",
    [None, b"null", b"https://evil.example", ORIGIN + b".evil.example", b"http://localhost:1"],
)
async def test_a_page_of_another_origin_gets_no_socket(cast, origin):
    _, connected = await listen("/ws/fleet/", cast.operator, origin)
    assert not connected


async def test_a_viewer_hears_only_of_clusters_that_are_granted(cast):
    socket, _ = await listen("/ws/fleet/", cast.viewer)
    assert (await hear(socket))["type"] == "hello"
    await tell(FLEET_GROUP, cast.foreign)
    await tell(cluster_group(cast.foreign.pk), cast.foreign)
    await tell(cluster_group(cast.cluster.pk), cast.cluster)
    assert await hear(socket) == {
        "type": "changed", "cluster": str(cast.cluster.pk), "what": "data",
    }  # fmt: skip
    assert await socket.receive_nothing(timeout=0.6)
    await socket.disconnect()


async def test_the_same_change_within_a_moment_is_sent_once(cast):
    socket, _ = await listen("/ws/fleet/", cast.operator)
    await hear(socket)
    for _ in range(20):
        await tell(FLEET_GROUP, cast.cluster)
        await tell(FLEET_GROUP, cast.cluster, "tunnel")
    heard = [await hear(socket), await hear(socket)]
    assert sorted(message["what"] for message in heard) == ["data", "tunnel"]
    assert await socket.receive_nothing(timeout=0.6)
    await socket.disconnect()


async def test_the_socket_closes_when_its_user_signs_out(cast):
    socket, _ = await listen("/ws/fleet/", cast.viewer)
    await hear(socket)
    await sync_to_async(Session.objects.all().delete)()
    await get_channel_layer().group_send(user_group(cast.viewer.pk), {"type": "user.changed"})
    assert await closing_code(socket) == consumers.NOT_SIGNED_IN


async def test_signing_out_in_a_page_closes_the_sockets_of_that_user(cast):
    def sign_out() -> None:
        client = Client()
        client.cookies[settings.SESSION_COOKIE_NAME] = cookie.partition("=")[2]
        client.post("/accounts/logout/")

    cookie = (await sync_to_async(cookie_of)(cast.viewer)).decode()
    headers = [(b"cookie", cookie.encode()), (b"origin", ORIGIN)]
    socket = Socket(application, "/ws/fleet/", headers)
    await socket.connect()
    await hear(socket)
    await sync_to_async(sign_out)()
    assert await closing_code(socket) == consumers.NOT_SIGNED_IN


@pytest.mark.parametrize("change", ["inactive", "grant", "deleted"])
async def test_a_lost_grant_closes_the_cluster_socket_at_the_next_check(cast, change, monkeypatch):
    monkeypatch.setattr(consumers.LiveConsumer, "recheck_seconds", 0.2)
    socket, _ = await listen(f"/ws/clusters/{cast.cluster.pk}/", cast.viewer)
    await hear(socket)

    def lose() -> None:
        if change == "inactive":
            User.objects.filter(pk=cast.viewer.pk).update(is_active=False)
        elif change == "grant":
            cast.viewer.customeruserobjectpermission_set.all().delete()
        else:
            cast.cluster.delete()

    await sync_to_async(lose)()
    expected = consumers.NOT_SIGNED_IN if change == "inactive" else consumers.NOT_VISIBLE
    assert await closing_code(socket) == expected


async def test_a_new_grant_is_heard_without_a_new_socket(cast):
    socket, _ = await listen("/ws/fleet/", cast.stranger)
    await hear(socket)
    await sync_to_async(grant)(cast.stranger, "view_cluster", cast.cluster)
    await get_channel_layer().group_send(user_group(cast.stranger.pk), {"type": "user.changed"})
    await asyncio.sleep(0.3)
    await tell(cluster_group(cast.cluster.pk), cast.cluster)
    assert (await hear(socket))["cluster"] == str(cast.cluster.pk)
    await socket.disconnect()


async def test_a_long_frame_closes_the_socket(cast):
    socket, _ = await listen("/ws/fleet/", cast.operator)
    await hear(socket)
    await socket.send_text("short")
    await socket.send_text("x" * 2000)
    assert await closing_code(socket) == consumers.TOO_BIG


async def test_a_browser_that_reads_nothing_loses_its_socket(cast, monkeypatch):
    monkeypatch.setattr(consumers.LiveConsumer, "send_seconds", 0.2)
    socket, _ = await listen("/ws/fleet/", cast.operator)
    await hear(socket)

    async def stuck(self, text_data=None, bytes_data=None, close=False):
        await asyncio.sleep(60)

    monkeypatch.setattr(consumers.LiveConsumer, "send", stuck)
    await tell(FLEET_GROUP, cast.cluster)
    assert await closing_code(socket) == consumers.TOO_SLOW


async def test_a_beat_carries_the_server_time(cast, monkeypatch):
    monkeypatch.setattr(consumers.LiveConsumer, "beat_seconds", 0.1)
    socket, _ = await listen("/ws/fleet/", cast.operator)
    await hear(socket)
    beat = await hear(socket)
    assert beat["type"] == "beat"
    assert beat["now"] > 1_700_000_000
    await socket.disconnect()


async def test_one_user_holds_only_so_many_sockets(cast, monkeypatch):
    slots = Slots("test_live_pages", "live pages", total=9, user=2)
    monkeypatch.setattr(consumers, "sockets", UserSockets(slots))
    held = [(await listen("/ws/fleet/", cast.viewer))[0] for _ in range(2)]
    for socket in held:
        assert orjson.loads(await socket.text())["type"] == "hello"
    refused, _ = await listen("/ws/fleet/", cast.viewer)
    assert (await refused.receive_output(timeout=10))["code"] == consumers.TOO_MANY
    other, _ = await listen("/ws/fleet/", cast.operator)
    assert orjson.loads(await other.text())["type"] == "hello"
    for socket in (*held, refused, other):
        await socket.disconnect()
    assert not slots.used
    again, _ = await listen("/ws/fleet/", cast.viewer)
    assert orjson.loads(await again.text())["type"] == "hello"
    await again.disconnect()


async def test_when_all_sockets_are_used_up_the_user_who_holds_most_loses_one(cast, monkeypatch):
    slots = Slots("test_few_live_pages", "live pages", total=3, user=3)
    monkeypatch.setattr(consumers, "sockets", UserSockets(slots))
    held = [(await listen("/ws/fleet/", cast.viewer))[0] for _ in range(3)]
    for socket in held:
        await hear(socket)
    newcomer, _ = await listen("/ws/fleet/", cast.operator)
    assert (await hear(newcomer))["type"] == "hello"
    assert await closing_code(held[0]) == consumers.TOO_MANY
    for socket in (*held, newcomer):
        await socket.disconnect()
    assert not slots.used


@pytest.mark.parametrize("path", ["/ws/fleet/", "/ws/clusters/{}/"])
async def test_a_stranger_is_refused_before_there_is_a_socket(cast, path):
    _, connected = await listen(path.format(cast.cluster.pk), cast.anonymous)
    assert not connected


async def test_a_handshake_that_nobody_can_check_is_refused_as_not_available(cast, monkeypatch):
    def away(scope):
        raise OperationalError("the database is away")

    monkeypatch.setattr(consumers, "session_user", away)
    headers = [(b"cookie", await sync_to_async(cookie_of)(cast.viewer)), (b"origin", ORIGIN)]
    socket = Socket(application, "/ws/fleet/", headers)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(timeout=10))["status"] == 503


async def test_a_socket_that_cannot_be_checked_is_closed_and_not_left_open(cast, monkeypatch):
    socket, _ = await listen("/ws/fleet/", cast.viewer)
    await socket.text()

    def away(scope):
        raise OperationalError("the database is away")

    monkeypatch.setattr(consumers, "session_user", away)
    await get_channel_layer().group_send(user_group(cast.viewer.pk), {"type": "user.changed"})
    assert (await socket.receive_output(timeout=10))["code"] == consumers.BROKEN
    await socket.disconnect()


async def test_a_browser_that_leaves_in_the_middle_of_a_message_is_no_error(caplog):
    async def send_to_nobody() -> None:
        raise ClientDisconnected

    await FleetConsumer()._guard(send_to_nobody)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
