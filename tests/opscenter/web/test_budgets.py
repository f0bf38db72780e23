"""What is answered when a share is used up: words on a page, the shapes of the APIs elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.test.client import RequestFactory
from django.urls import get_resolver
from rest_framework.settings import api_settings

from opscenter.core.budgets import BudgetError

ERROR = BudgetError("too many downloads at once", budget="csv", by="user", limit=2, retry_after=3)


def answer(path: str, **headers: str) -> Any:
    handler = get_resolver().resolve_error_handler(429)
    return handler(RequestFactory().get(path, headers=headers), ERROR)


@pytest.mark.parametrize("path", ["/", "/api/v1/clusters/", "/prometheus/api/v1/query"])
def test_every_surface_says_what_was_too_much_and_when_to_come_again(path: str) -> None:
    response = answer(path)

    assert response.status_code == 429
    assert response["Retry-After"] == "3"
    assert response["RateLimit-Limit"] == "2"
    assert "too many downloads at once" in response.content.decode()


def test_our_scripts_get_one_line() -> None:
    response = answer("/", hx_request="true")

    assert response.content == b"too many downloads at once"


def test_a_rest_view_answers_in_the_shape_of_errors() -> None:
    response = api_settings.EXCEPTION_HANDLER(ERROR, {})

    assert response is not None
    assert response.data["error"]["code"] == "throttled"
    assert response["Retry-After"] == "3"


@pytest.mark.django_db
def test_a_page_whose_share_is_used_up_is_429(
    client: Client, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ERROR

    monkeypatch.setattr("opscenter.pages.fleet.cluster_overviews", refuse, raising=True)
    client.force_login(admin)

    response = client.get("/")

    assert response.status_code == 429
    assert response["Retry-After"] == "3"


def test_the_prometheus_api_says_it_in_its_own_shape() -> None:
    body = json.loads(answer("/prometheus/api/v1/query").content)

    assert (body["status"], body["errorType"]) == ("error", "unavailable")
