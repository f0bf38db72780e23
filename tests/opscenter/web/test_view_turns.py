"""Views take turns by user and by address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory

from opscenter.core.turns import leave_turn
from opscenter.web import view_turns
from opscenter.web.view_turns import VIEWS, ViewTurnMiddleware
from tests.factories import api_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Take turns that last as long as the test; nobody waits for long."""
    monkeypatch.setattr(view_turns, "WAIT_SECONDS", 0.05)
    with ExitStack() as stack:
        yield lambda **holders: stack.enter_context(VIEWS.hold(**holders))
    assert VIEWS.used == 0


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_a_user_who_has_its_turns_waits_and_another_one_does_not(
    hold: Callable[..., None], operator: User, admin: User
) -> None:
    for _ in range(2):
        hold(caller=f"user {operator.pk}", address="192.0.2.1")

    refused = signed_in(operator).get("/")

    assert refused.status_code == 429
    assert int(refused["Retry-After"]) >= 1
    assert signed_in(admin).get("/").status_code == 200


def test_an_address_has_a_share_whoever_its_callers_are(
    hold: Callable[..., None], operator: User
) -> None:
    for number in range(4):
        hold(caller=f"token {number}", address="192.0.2.1")

    assert signed_in(operator).get("/", REMOTE_ADDR="192.0.2.1").status_code == 429
    assert signed_in(operator).get("/", REMOTE_ADDR="192.0.2.2").status_code == 200


def test_a_token_is_a_caller_of_its_own(hold: Callable[..., None], operator: User) -> None:
    token = f"Token {api_token(operator)}"
    for _ in range(2):
        hold(caller=view_turns._caller(RequestFactory().get("/", headers={"authorization": token})))

    answer = Client().get("/api/v1/clusters/", headers={"authorization": token})

    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "throttled")
    assert signed_in(operator).get("/api/v1/clusters/").status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_wait_for_nobody(hold: Callable[..., None], path: str) -> None:
    for number in range(VIEWS.total):
        hold(address=f"192.0.2.{number}")

    assert Client().get(path).status_code != 429


def test_an_error_of_the_view_ends_the_turn(operator: User, monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        msg = "a bug"
        raise RuntimeError(msg)

    monkeypatch.setattr("opscenter.pages.fleet.cluster_overviews", fail)
    client = signed_in(operator)
    client.raise_request_exception = False

    assert client.get("/").status_code == 500
    assert VIEWS.used == 0


@pytest.mark.django_db(transaction=True)
async def test_a_request_to_the_asgi_application_has_one_turn_and_gives_it_back() -> None:
    assert (await AsyncClient().get("/accounts/login/")).status_code == 200
    assert VIEWS.used == 0


def test_whoever_only_waits_for_others_gives_the_turn_back_early() -> None:
    used = []

    def view(request: HttpRequest) -> HttpResponse:
        middleware.process_view(request)
        used.append(VIEWS.used)
        leave_turn()
        used.append(VIEWS.used)
        return HttpResponse()

    middleware = ViewTurnMiddleware(view)
    request = RequestFactory().get("/x", headers={"authorization": "Token a"})
    middleware(request)

    assert used == [1, 0]
    assert VIEWS.used == 0


def test_strangers_count_for_their_address_only() -> None:
    request = RequestFactory().get("/")
    request.session = {}  # type: ignore[assignment]

    assert view_turns._caller(request) is None
