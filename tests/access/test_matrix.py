"""Every route and every socket, asked by everybody: a route without a line in the table fails."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.db import connections
from django.test import Client

from opscenter import asgi
from tests.access.routes import GROUPS, LOGIN, ROUTES, SOCKETS, Expect, all_routes

pytestmark = pytest.mark.django_db
CAST = ("anonymous", "stranger", "viewer", "operator")
LINES = [(pattern, expect) for pattern, lines in ROUTES.items() for expect in lines]


def test_every_socket_is_in_the_table_and_none_that_is_gone():
    assert set(SOCKETS) == {str(route.pattern) for route in asgi.websocket_routes}


def test_every_route_is_in_the_table_or_in_a_group_with_a_reason():
    known = set(ROUTES)
    missing = [
        route
        for route in all_routes()
        if route not in known and not route.startswith(tuple(group.prefix for group in GROUPS))
    ]
    assert missing == [], "add these routes to tests/access/routes.py"


def test_the_table_holds_no_route_that_is_gone():
    assert set(ROUTES) - set(all_routes()) == set()


@pytest.mark.parametrize("who", CAST)
@pytest.mark.parametrize(
    ("pattern", "expect"), LINES, ids=[f"{line.method} {line.url}" for _, line in LINES]
)
def test_each_of_the_cast_gets_what_the_table_says(
    pattern: str, expect: Expect, who: str, request: pytest.FixtureRequest, cluster, stranger
):
    client = Client(raise_request_exception=False)
    if who != "anonymous":
        client.force_login(
            request.getfixturevalue(who), backend="django.contrib.auth.backends.ModelBackend"
        )
    ids = {"cluster": cluster.pk, "customer": cluster.customer_id}
    url = expect.url.format(**ids)
    if expect.form is not None:
        response = client.post(url, expect.form)
    else:
        response = client.generic(
            expect.method, url, *_json(expect.body, ids), headers={"accept": "*/*"}
        )
    assert response.status_code == getattr(expect, who), response.content[:300]
    if response.status_code == LOGIN and who == "anonymous":
        assert urlsplit(response["location"]).path == "/accounts/login/"
    assert response["cache-control"] == "private, no-store"


def _json(body: object, ids: dict[str, object]) -> tuple[bytes, str]:
    """Return a body with its type; ids are filled in as in addresses."""
    import orjson

    if isinstance(body, dict):
        body = {
            key: value.format(**ids) if isinstance(value, str) else value
            for key, value in body.items()
        }
    return (b"" if body is None else orjson.dumps(body), "application/json")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("who", CAST)
@pytest.mark.parametrize("pattern", SOCKETS)
async def test_each_of_the_cast_gets_into_the_sockets_of_the_table(
    pattern: str, who: str, request: pytest.FixtureRequest, cluster, stranger, viewer, operator
):
    url, allowed = SOCKETS[pattern]
    headers = [(b"origin", settings.TRUSTED_ORIGINS[0].encode())]
    if who != "anonymous":
        client = Client()
        await sync_to_async(client.force_login)(
            request.getfixturevalue(who), backend="django.contrib.auth.backends.ModelBackend"
        )
        name = settings.SESSION_COOKIE_NAME
        headers.append((b"cookie", f"{name}={client.cookies[name].value}".encode()))
    scope = {"type": "websocket", "path": url.format(cluster=cluster.pk), "headers": headers,
             "query_string": b"", "subprotocols": []}  # fmt: skip
    socket = ApplicationCommunicator(asgi.application, scope)
    await socket.send_input({"type": "websocket.connect"})
    # A refusal is an accepted socket that is closed at once: only so do browsers see its code.
    answer = await socket.receive_output(timeout=5)
    if answer["type"] == "websocket.accept":
        answer = await socket.receive_output(timeout=5)  # a greeting, or the refusal
    connected = answer["type"] == "websocket.send"
    if connected:
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await socket.wait(timeout=5)
    await sync_to_async(connections.close_all)()  # those of the consumer's thread
    assert connected == allowed[CAST.index(who)]


@pytest.mark.parametrize("who", ["anonymous", "viewer"])
def test_routes_of_libraries_let_nobody_near_who_should_not(who, request, cluster):
    client = Client(raise_request_exception=False)
    if who != "anonymous":
        client.force_login(
            request.getfixturevalue(who), backend="django.contrib.auth.backends.ModelBackend"
        )
    for route in all_routes():
        group = next((g for g in GROUPS if route.startswith(g.prefix)), None)
        if group is None or group.anonymous_ok or "<" in route or "(" in route:
            continue
        response = client.get("/" + route)
        assert response.status_code in (301, 302, 403, 404), route
