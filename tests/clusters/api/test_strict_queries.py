"""Unknown query parameters are refused, not ignored."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from tests.factories import api_token

pytestmark = pytest.mark.django_db
URL = "/api/v1/clusters/"


@pytest.fixture
def api(operator) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {api_token(operator)}")
    return client


def refused_fields(response) -> dict[str, list[str]]:
    assert response.status_code == 400, response.content
    error = response.json()["error"]
    assert error["code"] == "invalid"
    return error["fields"]


def test_a_misspelt_filter_is_refused_by_its_name(api, cluster):
    fields = refused_fields(api.get(f"{URL}?stat=critical"))
    assert fields == {"stat": ["There is no such parameter here."]}


def test_one_value_given_twice_is_refused_and_a_list_is_not(api, cluster):
    assert refused_fields(api.get(f"{URL}?q=a&q=b")) == {"q": ["Give it once."]}
    assert api.get(f"{URL}?state=ok&state=unknown").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nodes/",
        "pods/",
        "filesystems/",
        "windows",
        "sessions/",
        "range?kind=cluster&field=pods",
    ],
)
def test_every_endpoint_of_a_cluster_knows_its_parameters(api, cluster, path):
    mark = "&" if "?" in path else "?"
    address = f"{URL}{cluster.pk}/{path}"
    assert api.get(address).status_code == 200
    assert set(refused_fields(api.get(f"{address}{mark}nonsense=1"))) == {"nonsense"}


def test_the_schema_and_the_endpoints_agree_on_the_parameters(api, cluster):
    document = api.get("/api/v1/schema/").json()
    for path, operations in document["paths"].items():
        if "get" not in operations:
            continue
        address = path.replace("{cluster_id}", str(cluster.pk))
        address = address.replace("{customer_id}", str(cluster.customer_id))
        for parameter in operations["get"].get("parameters", []):
            if parameter["in"] == "query":
                answer = api.get(f"{address}?{parameter['name']}=%00")
                message = str(answer.json())
                assert "There is no such parameter here." not in message, (path, parameter["name"])


def test_a_method_that_changes_something_takes_no_parameters(api, cluster):
    assert "force" in refused_fields(api.delete(f"{URL}{cluster.pk}/?force=1"))
    cache.clear()
    sent = {"token": "ocj_x", "public_key": "ssh-ed25519 A"}
    assert "a" in refused_fields(APIClient().post("/api/v1/agents/enrol?a=1", sent, format="json"))


def test_a_made_up_name_costs_a_bounded_answer(api, cluster):
    many = "&".join(f"{'x' * 500}{number}=1" for number in range(90))
    assert len(api.get(f"{URL}?{many}").content) < 4000


def test_a_user_without_permission_learns_no_parameters(cluster):
    assert APIClient().get(f"{URL}?nonsense=1").status_code == 401


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_that_is_nested_too_deeply_is_refused(opening, db):
    body = opening * (250_000 // len(opening))
    answer = APIClient(raise_request_exception=False).post(
        "/api/v1/agents/enrol", body, content_type="application/json"
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid"
