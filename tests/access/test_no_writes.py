"""Reading never needs writing: every GET, on a database that takes no writes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from clusters.models import ApiToken, AuditEvent, Cluster
from opscenter import asgi
from tests.access.routes import GROUPS, ROUTES, all_routes
from tests.databasefaults import locked, read_only
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)
BACKEND = "django.contrib.auth.backends.ModelBackend"
LOGIN = "/accounts/login/"
TROUBLE = "database takes no changes at the moment"
FAULTS = [read_only, locked]


def addresses(cluster: Cluster) -> list[str]:
    """Return every GET of the table of accesses, and every plain one of the libraries' pages."""
    table = {line.url for lines in ROUTES.values() for line in lines if line.method == "GET"}
    ids = {"cluster": cluster.pk, "customer": cluster.customer_id}
    pages = {url.format(**ids) for url in table}
    prefixes = tuple(group.prefix for group in GROUPS)
    plain = {
        "/" + route.replace("^", "").replace("/?$", "/")
        for route in all_routes()
        if route.startswith(prefixes) and "<" not in route and "(" not in route
    }
    tabs = {
        f"/clusters/{cluster.pk}/?tab={tab}"
        for tab in ("overview", "nodes", "pods", "data", "tunnel", "settings")
    }
    return sorted(pages | plain | tabs)


def api_client(user: User) -> Client:
    """Return a client that sends a token of the user's, and no session."""
    _, token = ApiToken.objects.create(user=user, name="a test")
    return Client(raise_request_exception=False, headers={"authorization": f"Token {token}"})


def page_client(user: User | None = None) -> Client:
    """Return a client with the session of a user; None for a visitor's."""
    client = Client(raise_request_exception=False)
    if user is not None:
        client.force_login(user, backend=BACKEND)
    return client


def asked(client: Client, urls: list[str]) -> dict[str, tuple[int, bytes]]:
    """Return what each address answers."""
    answers = {}
    for url in urls:
        answer = client.get(url)
        content = b"".join(answer) if answer.streaming else answer.content
        answers[url] = (answer.status_code, content)
    return answers


def is_recorded(client: Client, url: str) -> bool:
    """Return whether an answer leaves a line in the audit log."""
    before = AuditEvent.objects.count()
    client.get(url)
    return AuditEvent.objects.count() > before


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("who", ["session", "token", "visitor"])
def test_every_get_answers_as_before_on_a_database_that_takes_no_writes(
    who, fault, admin, cluster, store
):
    client = {
        "session": lambda: page_client(admin),
        "token": lambda: api_client(admin),
        "visitor": page_client,
    }[who]()
    urls = addresses(cluster)
    before = asked(client, urls)
    recorded = {url for url in urls if is_recorded(client, url)}
    assert len(urls) > 100
    assert recorded or who == "visitor"
    with fault():
        meanwhile = asked(client, urls)
    wrong = {
        url: (before[url][0], status, content[:150])
        for url, (status, content) in meanwhile.items()
        if status != (503 if url in recorded else before[url][0])
    }
    assert wrong == {}
    for url in recorded:  # a download must be in the audit log, or not be made
        assert TROUBLE in meanwhile[url][1].decode(), url
    assert asked(client, urls).keys() == before.keys()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_query_of_grafana_is_answered_though_it_is_posted(fault, operator):
    client = api_client(operator)
    with fault():
        form = "application/x-www-form-urlencoded"
        answer = client.post("/prometheus/api/v1/query", "query=1", content_type=form)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/ws/fleet/", "/ws/clusters/{cluster}/"])
async def test_a_page_gets_its_socket_on_a_locked_database(path, operator, cluster):
    client = await sync_to_async(page_client)(operator)
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    origin = settings.TRUSTED_ORIGINS[0]
    scope = {"type": "websocket", "path": path.format(cluster=cluster.pk), "query_string": b"",
             "headers": [(b"origin", origin.encode()), (b"cookie", cookie.encode())],
             "subprotocols": []}  # fmt: skip
    fault = locked()
    await sync_to_async(fault.__enter__)()
    try:
        socket = ApplicationCommunicator(asgi.application, scope)
        await socket.send_input({"type": "websocket.connect"})
        assert (await socket.receive_output(timeout=5))["type"] == "websocket.accept"
        assert (await socket.receive_output(timeout=5))["type"] == "websocket.send"
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await socket.wait(timeout=5)
    finally:
        await sync_to_async(fault.__exit__)(None, None, None)
        await sync_to_async(connections.close_all)()


def test_sqlite_sorts_without_a_temporary_file():
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            assert cursor.execute("PRAGMA temp_store").fetchone() == (2,)  # memory


# --- where the write is the point -------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_a_sign_in_is_refused_in_words_and_works_afterwards(fault, password, operator):
    client = page_client()
    with fault():
        assert client.get(LOGIN).status_code == 200
        answer = client.post(LOGIN, {"login": "operator", "password": password})
        assert answer.status_code == 503
        assert TROUBLE in answer.content.decode()
        assert "The numbers cannot be read" not in answer.content.decode()
        assert settings.SESSION_COOKIE_NAME not in answer.cookies
        assert client.get("/").status_code == 302
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sign_out_that_cannot_be_stored_is_refused(fault, operator):
    client = page_client(operator)
    with fault():
        assert client.post("/accounts/logout/").status_code == 503
        assert client.get("/").status_code == 200
    client.post("/accounts/logout/")
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("make_client", [api_client, page_client])
def test_a_change_by_the_api_is_refused_in_the_shape_of_errors(fault, make_client, operator):
    client = make_client(operator)
    with fault():
        answer = client.post(
            "/api/v1/clusters/", {"name": "brand-new"}, content_type="application/json"
        )
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "database_unavailable"
    assert TROUBLE in answer.json()["error"]["message"]
    assert not Cluster.objects.filter(name="brand-new").exists()


def test_a_form_of_our_scripts_is_refused_in_one_line(operator, cluster):
    client = page_client(operator)
    with read_only():
        answer = client.post(
            f"/clusters/{cluster.pk}/labels/", {"labels": "a=b"}, headers={"hx-request": "true"}
        )
    assert answer.status_code == 503
    assert answer.content.decode().startswith("Ops Center's database takes no changes")


def test_the_log_names_the_trouble_once_a_minute(operator, caplog, monkeypatch):
    monkeypatch.setattr("opscenter.core.database._logged", {})
    client = page_client()
    with read_only():
        for _ in range(3):
            client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    lines = [one for one in caplog.messages if "readonly" in one or "read-only" in one]
    assert len(lines) == 1


# --- what is written in passing ---------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_session_of_a_former_secret_key_goes_on(fault, operator, settings):
    client = page_client(operator)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key, of a test, with more than fifty characters"
    before = client.cookies[settings.SESSION_COOKIE_NAME].value
    with fault():
        for _ in range(2):
            assert client.get("/").status_code == 200
        assert client.cookies[settings.SESSION_COOKIE_NAME].value == before
    assert client.get("/").status_code == 200
    assert client.cookies[settings.SESSION_COOKIE_NAME].value != before
    settings.SECRET_KEY_FALLBACKS = []
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("fault", FAULTS)
def test_a_session_from_before_a_change_of_the_password_is_refused(fault, operator):
    client = page_client(operator)
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    operator.set_password("another one, and long")
    operator.save()
    with fault():
        assert client.get("/").status_code == 302
        client.cookies[settings.SESSION_COOKIE_NAME] = key
        assert client.get("/").status_code == 302
    client.cookies[settings.SESSION_COOKIE_NAME] = key
    assert client.get("/").status_code == 302
    assert not Session.objects.filter(pk=key).exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_that_stores_something_in_the_session_is_shown(fault, operator):
    client = page_client(operator)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    with fault():
        assert client.get("/accounts/2fa/totp/activate/").status_code == 200


@pytest.mark.parametrize("fault", FAULTS)
def test_expired_tokens_are_refused_and_not_in_the_way(fault, operator):
    old, client = api_client(operator), api_client(operator)
    expired = ApiToken.objects.order_by("created").first()
    ApiToken.objects.filter(pk=expired.pk).update(expiry=timezone.now() - timedelta(days=1))
    with fault():
        assert old.get("/api/v1/clusters/").status_code == 401
        assert client.get("/api/v1/clusters/").status_code == 200
    assert ApiToken.objects.count() == 2
