"""The OpenAPI schema: complete, and made without warnings."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.core.management import call_command
from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator

from tests.access.routes import all_routes

pytestmark = pytest.mark.django_db
URL = "/api/v1/schema/"


def test_the_schema_is_made_without_a_warning():
    out, err = StringIO(), StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=out, stderr=err)
    assert err.getvalue() == ""


def test_the_schema_is_made_once_however_often_it_is_asked_for(client, monkeypatch):
    first = client.get(URL).content

    def made_again(*_: object, **__: object) -> None:
        raise AssertionError("it is made again")

    monkeypatch.setattr(SchemaGenerator, "get_schema", made_again)
    assert client.get(URL).content == first
    assert client.get(f"{URL}?version=7").status_code in (200, 400)


def test_every_route_of_the_api_is_in_the_schema(client):
    paths = client.get(URL).json()["paths"]
    described = {path.replace("{cluster_id}", "{id}").replace("_id}", "}") for path in paths}
    routed = {
        "/" + route.replace("^", "").replace("/?$", "/").replace("$", "")
        for route in all_routes(get_resolver())
        if route.startswith("api/")
    }
    assert routed - described == {"/api/v1/schema/", "/api/v1/docs/"}


def test_every_operation_says_what_it_is_and_how_it_fails(client):
    for path, operations in client.get(URL).json()["paths"].items():
        for method in set(operations) & {"get", "post", "patch", "delete"}:
            operation = operations[method]
            assert operation["summary"], (method, path)
            assert "4XX" in operation["responses"], (method, path)
            assert operation["operationId"], (method, path)


def test_the_page_of_the_schema_runs_no_inline_script_and_asks_no_other_host(client):
    page = client.get("/api/v1/docs/")
    assert "script-src 'self'" in page["content-security-policy"]
    tags = re.findall(r"<(?:script|link)\b[^>]*>", page.content.decode())
    sources = [re.search(r'(?:src|href)="([^"]*)"', tag) for tag in tags]
    assert len(sources) >= 4
    for source in sources:
        assert source, "an inline script, which the policy forbids"
        assert source[1].startswith("/"), source[1]
        if not source[1].startswith("/static/"):
            script = client.get(source[1])
            assert (script.status_code, script["content-type"]) == (200, "application/javascript")


def test_texts_with_a_nul_are_refused(client):
    body = {"token": "ocj_a\x00b", "public_key": "k", "agent_version": "1", "kind": "host"}
    answer = client.post("/api/v1/agents/enrol/", body, content_type="application/json")
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == ["token"]
