"""The API about clusters: lists, details, changes, errors, tokens, cost."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from clusters.models import ApiToken, AuditEvent, Cluster
from clusters.status_numbers import NUMBERS
from clusters.tasks import write_token_uses
from tests.factories import (
    NOW,
    ClusterFactory,
    TunnelSessionFactory,
    api_token,
    healthy,
    public_key,
)

pytestmark = pytest.mark.django_db
URL = "/api/v1/clusters/"


def client_of(user, **kwargs) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {api_token(user, **kwargs)}")
    return client


def of(cluster: Cluster, rest: str = "/") -> str:
    return f"{URL}{cluster.pk}{rest}"


@pytest.fixture
def api(operator) -> APIClient:
    return client_of(operator)


def test_the_list_has_what_an_automation_needs(api, cluster):
    with time_machine.travel(NOW + timedelta(seconds=10), tick=False):
        body = api.get(URL).json()
    assert body["count"] == 1
    assert (body["next"], body["previous"]) == (None, None)
    (row,) = body["results"]
    assert row["id"] == str(cluster.pk)
    assert row["health"] == {
        "state": "ok", "since": "2026-03-01T12:00:00Z", "was": "",
        "reason": "all 3 nodes are ready", "at_least": False, "findings": [],
    }  # fmt: skip
    assert row["data_as_of"] == "2026-03-01T12:00:00Z"
    assert row["data_age_seconds"] == 10
    assert (row["nodes_ready"], row["nodes_total"], row["labels"]) == (3, 3, {"region": "eu"})
    assert (row["cpu_used_millicores"], row["tunnel"]["up"]) == (4000, True)


def test_the_list_gives_every_number_under_its_name_in_the_api(api, cluster):
    (row,) = api.get(URL).json()["results"]
    named = {number.api: name for name, number in NUMBERS.items() if number.api}
    assert {name: row[name] for name in named} == {
        name: getattr(cluster.current, column) for name, column in named.items()
    }


def test_pages_are_counted_and_linked(api):
    ClusterFactory.create_batch(5, **healthy())
    body = api.get(URL, {"page_size": 2, "page": 2}).json()
    assert (body["count"], len(body["results"])) == (5, 2)
    assert "page=3" in body["next"]
    assert "page_size=2" in body["previous"]


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "page_size=0", "page_size=501", "page_size=null", "page=1.5"]
)
def test_a_page_that_makes_no_sense_is_refused(api, query):
    response = api.get(f"{URL}?{query}")
    assert (response.status_code, list(response.json()["error"]["fields"])) == (
        400, [query.partition("=")[0]],
    )  # fmt: skip


def test_a_page_after_the_last_is_not_found(api):
    assert api.get(f"{URL}?page=2").status_code == 404


@pytest.mark.parametrize(
    ("query", "count"),
    [("q=north", 1), ("q=NORTH+eu", 1), ("state=unknown", 2), ("state=ok", 0), ("label=region", 1),
     ("label=region=us", 0), ("customer=Southbank", 1)],
)  # fmt: skip
def test_the_list_is_filtered_as_the_page_is(api, cluster, foreign_cluster, query, count):
    assert api.get(f"{URL}?{query}").json()["count"] == count


def test_an_unknown_state_is_refused_by_field(api):
    response = api.get(URL, {"state": "purple"})
    assert response.status_code == 400
    assert list(response.json()["error"]["fields"]) == ["state"]


@pytest.mark.parametrize("path", [URL, URL.rstrip("/"), "/api/v1/"])
def test_both_forms_of_a_path_work_without_a_redirect(api, path):
    assert api.get(path).status_code == 200
    assert api.get(of(ClusterFactory(), "/sessions")).status_code == 200


def test_a_post_without_the_slash_keeps_its_body(api):
    response = api.post(URL.rstrip("/"), {"name": "berlin-1"}, format="json")
    assert response.status_code == 201, response.json()


def test_a_detail_holds_keys_pull_and_conflict(api, cluster):
    cluster.keys.create(public_key=public_key(), fingerprint="SHA256:x")
    body = api.get(of(cluster)).json()
    assert body["keys"][0]["fingerprint"] == "SHA256:x"
    assert body["pull"]["failures"] == 0
    assert (body["services"], body["enrolment"]) == (["agent"], "active")


def test_a_cluster_is_created_with_labels_and_customer(api, customer):
    sent = {"name": "berlin-1", "labels": {"tier": "gold"}, "customer_id": str(customer.pk)}
    body = api.post(URL, sent, format="json").json()
    assert (body["name"], body["labels"], body["customer"]) == (
        "berlin-1", {"tier": "gold"}, "Northwind",
    )  # fmt: skip
    assert body["health"]["state"] == "pending"
    assert AuditEvent.objects.get().actor == "operator"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({}, 400, "invalid"),
        ({"name": "UPPER"}, 400, "invalid"),
        ({"name": " padded "}, 400, "invalid"),
        ({"name": "a", "labels": ["x"]}, 400, "invalid"),
        ({"name": "a", "labels": {"x": {"y": 1}}}, 400, "invalid"),
        ({"name": "a", "labels": {"x\u0000": "y"}}, 400, "invalid"),
        ({"name": "a", "customer_id": "no"}, 400, "invalid"),
        ({"name": "a", "customer_id": str(uuid.uuid4())}, 404, "not_found"),
        ({"name": "north-1"}, 409, "conflict"),
        ([], 400, "invalid"),
    ],
)
def test_bad_input_is_refused_in_the_one_shape(api, cluster, sent, status, code):
    response = api.post(URL, sent, format="json")
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert set(response.json()["error"]) == {"code", "message", "fields"}
    assert Cluster.objects.count() == 1


def test_a_patch_changes_only_what_it_names(api, cluster):
    body = api.patch(of(cluster), {"labels": {"a": "b"}}, format="json").json()
    assert (body["name"], body["labels"]) == ("north-1", {"a": "b"})
    body = api.patch(of(cluster), {"name": "north-2"}, format="json").json()
    assert (body["name"], body["labels"]) == ("north-2", {"a": "b"})
    assert api.patch(of(cluster), {}, format="json").status_code == 200
    assert list(AuditEvent.objects.values_list("action", flat=True)) == ["cluster.update"] * 2


def test_a_join_token_enrols_an_agent_through_the_api(api, cluster, settings):
    body = api.post(of(cluster, "/join-token")).json()
    assert body["token"] in body["command"]
    assert body["hub_key_fingerprint"] in body["command"]
    assert body["hub_key_fingerprint"].startswith("SHA256:")
    sent = {
        "token": body["token"],
        "public_key": public_key(),
        "agent_version": "1",
        "kind": "host",
    }
    response = APIClient().post("/api/v1/agents/enrol", sent, format="json")
    assert response.status_code == 200
    reply = response.json()
    assert reply["cluster_id"] == str(cluster.pk)
    assert reply["hub"]["addresses"] == [settings.HUB_PUBLIC_ADDRESS]
    assert reply["hub"]["known_hosts"][0].startswith("ssh-ed25519 ")
    assert (reply["services"], reply["keepalive_seconds"]) == (["agent"], 15)
    again = APIClient().post("/api/v1/agents/enrol", sent, format="json")
    assert again.json() == reply  # the agent never got the first answer
    other = sent | {"public_key": public_key("another")}
    again = APIClient().post("/api/v1/agents/enrol", other, format="json")
    assert again.status_code == 403
    assert again.json()["error"]["code"] == "enrolment_refused"
    assert "used already" in again.json()["error"]["message"]


def test_revoking_and_deleting(api, cluster):
    assert api.post(of(cluster, "/revoke/")).json()["health"]["state"] == "revoked"
    assert api.delete(of(cluster)).status_code == 204
    assert api.get(of(cluster)).status_code == 404


@pytest.mark.parametrize(("seconds", "state"), [(30, "ready"), (90, "unknown"), (-90, "unknown")])
def test_a_tunnel_of_which_its_hub_is_silent_is_neither_ready_nor_ended(
    api, cluster, seconds, state
):
    seen_at = datetime.now(UTC) - timedelta(seconds=seconds)
    TunnelSessionFactory(cluster=cluster, state="ready", seen_at=seen_at)
    [row] = api.get(of(cluster, "/sessions")).json()["results"]
    assert (row["state"], row["ended_at"]) == (state, None)


def test_the_tunnel_history_is_newest_first_and_filtered(api, cluster):
    for minutes, state in ((1, "gone"), (3, "ready"), (2, "gone")):
        at = NOW + timedelta(minutes=minutes)
        TunnelSessionFactory(
            cluster=cluster, connected_at=at, state=state, seen_at=datetime.now(UTC),
            ended_at=at if state == "gone" else None,
        )  # fmt: skip
    TunnelSessionFactory()
    body = api.get(of(cluster, "/sessions")).json()
    assert [row["state"] for row in body["results"]] == ["ready", "gone", "gone"]
    assert api.get(of(cluster, "/sessions?state=gone")).json()["count"] == 2
    assert api.get(of(cluster, "/sessions?open=true")).json()["count"] == 1
    after = (NOW + timedelta(minutes=2)).isoformat().replace("+", "%2B")
    assert api.get(of(cluster, f"/sessions?connected_after={after}")).json()["count"] == 2
    bad = api.get(of(cluster, "/sessions?state=purple"))
    assert (bad.status_code, list(bad.json()["error"]["fields"])) == (400, ["state"])


@pytest.mark.parametrize(
    ("method", "rest"),
    [("get", "/"), ("patch", "/"), ("delete", "/"), ("post", "/join-token"), ("post", "/revoke"),
     ("get", "/sessions"), ("get", "/join-token"), ("put", "/")],
)  # fmt: skip
def test_a_foreign_cluster_and_a_missing_one_give_the_same_bytes(
    viewer, foreign_cluster, method, rest
):
    client = client_of(viewer)
    answers = []
    for wanted in (foreign_cluster.pk, uuid.uuid4(), "0" * 36):
        response = getattr(client, method)(f"{URL}{wanted}{rest}", {}, format="json")
        headers = {k: v for k, v in response.headers.items() if k.lower() != "date"}
        answers.append((response.status_code, response.content, headers))
    assert answers[0] == answers[1]
    assert answers[0][:2] == answers[2][:2]
    assert answers[0][0] == (
        405 if (method, rest) in (("get", "/join-token"), ("put", "/")) else 404
    )


def test_a_path_that_does_not_exist_answers_as_an_unknown_cluster_does(api):
    unknown = api.get(f"{URL}{uuid.uuid4()}/")
    for path in ("/api/v1/nothing", "/api/", "/api/v2/x", f"{URL}not-a-uuid/"):
        response = api.get(path)
        assert (response.status_code, response.content) == (404, unknown.content)
        assert response["content-type"] == unknown["content-type"] == "application/json"


def test_a_bug_answers_in_the_one_shape_without_its_text(api, cluster, monkeypatch):
    def boom(*args):
        raise RuntimeError("the secret reason")

    monkeypatch.setattr("clusters.selectors.cluster_overviews", boom)
    response = api.get(URL)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "error"
    assert b"secret" not in response.content


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [(b"{", "application/json", 400), (b'{"name": NaN}', "application/json", 400),
     (b"\xff\xfe", "application/json", 400), (b"name=a", "text/plain", 415),
     (b'"' + b"a" * 300_000 + b'"', "application/json", 413),
     (b'{"name": "\\ud800"}', "application/json", 400)],
)  # fmt: skip
def test_a_body_that_is_no_small_json_is_refused(api, content, content_type, status):
    response = api.generic("POST", URL, content, content_type)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_an_answer_that_is_asked_for_as_html_is_refused_in_json(api):
    assert api.get(URL, HTTP_ACCEPT="text/html").status_code == 406


@pytest.mark.parametrize(
    "header", ["Token", "Token x y", "Token opc_wrong", "Token \xff\xfe", "Bearer x", "Basic eDp5"]
)
def test_a_bad_token_is_401_in_the_one_shape(header):
    response = APIClient().get(URL, HTTP_AUTHORIZATION=header)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "not_authenticated"
    assert response["www-authenticate"] == "Token"


def test_a_session_needs_the_csrf_token_to_write(operator):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(URL).status_code == 200
    assert client.post(URL, {"name": "x"}, format="json").status_code == 403


def test_a_read_only_token_reads_and_does_not_write(operator, cluster):
    client = client_of(operator, read_only=True)
    assert client.get(URL).status_code == 200
    assert client.head(of(cluster)).status_code == 200
    for method, path in (("post", URL), ("patch", of(cluster)), ("delete", of(cluster))):
        response = getattr(client, method)(path, {"name": "x"}, format="json")
        assert response.status_code == 403
        assert "read-only" in response.json()["error"]["message"]


def test_a_token_ends_with_its_user_and_its_time(operator):
    client = client_of(operator)
    ApiToken.objects.update(expiry=datetime.now(UTC) - timedelta(seconds=1))
    assert client.get(URL).status_code == 401
    client = client_of(operator)
    operator.is_active = False
    operator.save()
    assert client.get(URL).status_code == 401


def test_the_use_of_a_token_is_recorded_at_most_once_a_minute(operator, redis_server):
    client = client_of(operator)
    with time_machine.travel(NOW, tick=False) as clock:
        client.get(URL)
        assert ApiToken.objects.get().last_used_at is None  # a request writes nothing
        assert write_token_uses() == 1
        assert ApiToken.objects.get().last_used_at == NOW
        for seconds, noted in ((59, NOW), (2, NOW + timedelta(seconds=61))):
            clock.shift(seconds)
            client.get(URL)
            write_token_uses()
            assert ApiToken.objects.get().last_used_at == noted


def make_token(*args: str) -> str:
    out = StringIO()
    call_command("create_token", *args, stdout=out)
    return out.getvalue()


def test_create_token_prints_the_token_alone(operator):
    printed = make_token("nightly", "--user", "operator")
    assert printed.startswith("opc_")
    assert printed == printed.strip() + "\n"
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {printed.strip()}")
    assert client.get(URL).status_code == 200
    assert printed.strip() not in str(
        list(ApiToken.objects.values()) + list(AuditEvent.objects.values())
    )


def test_create_token_keeps_scope_and_lifetime(operator):
    make_token("nightly", "--user", "operator", "--read-only", "--expires-days", "2")
    token = ApiToken.objects.get()
    assert (token.name, token.read_only) == ("nightly", True)
    assert timedelta(days=1) < token.expiry - datetime.now(UTC) <= timedelta(days=2)


@pytest.mark.parametrize(
    "args",
    [("x", "--user", "nobody"), ("", "--user", "operator"),
     ("x", "--user", "operator", "--expires-days", "0")],
)  # fmt: skip
def test_create_token_refuses_what_makes_no_sense(operator, args):
    with pytest.raises(CommandError):
        make_token(*args)


@pytest.mark.parametrize("count", [1, 120])
def test_a_list_costs_the_same_queries_at_any_size(
    viewer, customer, count, django_assert_num_queries
):
    ClusterFactory.create_batch(count, customer=customer, **healthy())
    client = client_of(viewer)
    client.get(URL)
    with django_assert_num_queries(3):  # the token, the role, the list
        assert client.get(URL).json()["count"] == count


def test_a_detail_costs_five_queries(viewer, cluster, django_assert_num_queries):
    client = client_of(viewer)
    client.get(of(cluster))
    with django_assert_num_queries(5):  # as the list; the cluster, its keys
        assert client.get(of(cluster)).status_code == 200


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        ("2026-03-01T12:00:00-16:06", 200),  # more than PostgreSQL takes as an offset
        ("0007-11-10T17:56:16.38-16:06", 200),
        ("0001-01-01T00:00:00+05:00", 400),  # before the year 1 in UTC
        ("9999-12-31T23:59:59-05:00", 400),
    ],
)
def test_moments_in_any_offset_are_compared_or_refused(api, cluster, moment, status):
    answer = api.get(of(cluster, "/sessions"), {"connected_before": moment})
    assert answer.status_code == status
