"""Every endpoint that changes something, asked with a key that it does not know."""

from __future__ import annotations

import orjson
import pytest

from clusters.models import AuditEvent, Cluster
from metrics.models import RetentionClass
from tests.access.routes import ENROL, ROUTES, Expect

pytestmark = pytest.mark.django_db
ENROLMENT = "api/v1/^agents/enrol/?$"
WRITING = [
    line
    for pattern, lines in ROUTES.items()
    for line in lines
    if pattern.startswith("api/") and pattern != ENROLMENT
    if line.method not in {"GET", "HEAD"} and line.operator != 405
]
WRONG = ["dry-run", "customer", "colour"]


@pytest.mark.parametrize("line", WRITING, ids=[f"{line.method} {line.url}" for line in WRITING])
def test_an_unknown_key_is_refused_by_name_and_nothing_is_done(
    line: Expect, client, admin, cluster
):
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    kept = RetentionClass.objects.create(name="kept", limits={})
    ids = {"cluster": cluster.pk, "customer": cluster.customer_id}
    body = {
        key: value.format(**ids) if isinstance(value, str) else value
        for key, value in (line.body or {}).items()
    }
    before = AuditEvent.objects.count()
    answer = client.generic(
        line.method,
        line.url.format(**ids).replace("999", str(kept.pk)),
        orjson.dumps(body | dict.fromkeys(WRONG, True)),
        "application/json",
    )
    assert answer.status_code == 400, answer.content
    assert set(WRONG) <= set(answer.json()["error"]["fields"])
    assert AuditEvent.objects.count() == before
    assert Cluster.objects.filter(pk=cluster.pk, name=cluster.name).exists()


def test_an_agent_may_send_keys_of_newer_versions_when_it_enrols(client, cluster):
    body = ENROL | {"platform": "newer"}
    answer = client.post("/api/v1/agents/enrol", body, content_type="application/json")
    assert answer.status_code == 403  # for its token alone


def test_an_endpoint_without_a_body_takes_an_empty_one(client, admin, cluster):
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    url = f"/api/v1/clusters/{cluster.pk}/join-token/"
    for body in (b"", b"{}", b"null"):
        assert client.generic("POST", url, body, "application/json").status_code == 201
    assert client.generic("POST", url, b"[1]", "application/json").status_code == 400


def test_the_schema_says_that_bodies_have_no_other_keys(client):
    schema = client.get(
        "/api/v1/schema/?format=json", headers={"accept": "application/json"}
    ).json()
    shapes = schema["components"]["schemas"]
    closed = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if isinstance(operation, dict) and "requestBody" in operation:
                sent = operation["requestBody"]["content"]["application/json"]["schema"]
                name = sent["$ref"].rpartition("/")[2]
                closed[f"{method} {path}"] = shapes[name].get("additionalProperties")
    assert closed.pop("post /api/v1/agents/enrol/") is None
    assert len(closed) > 10
    assert set(closed.values()) == {False}
