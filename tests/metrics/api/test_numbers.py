"""The API about numbers: nodes, pods, filesystems, ranges and the ledger."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from rest_framework.test import APIClient

from metrics.catalog import FIELD_NAMES
from metrics.query import STREAM
from metrics.stores import get_store
from metrics.stores.base import Batch, SeriesInfo, SeriesKey, StoreError
from tests.factories import api_token
from tests.metrics.stores.contract import NODE, POD, T0, row, window

pytestmark = pytest.mark.django_db
NOW = T0 + 600
DISK = SeriesKey("filesystem", "n1", "/var")


@pytest.fixture
def api(viewer, cluster, store):
    rows = [row(NODE, T0 + 60 * m, cpu_mc=100 + m, ready=1) for m in range(10) if m != 5]
    rows += [row(POD, T0 + 540, cpu_mc=7, mem_ws=2), row(DISK, T0 + 540, used=9, cap=10)]
    rows += [row(SeriesKey("pod", "web", f"web-{n}"), T0 + 540, cpu_mc=n) for n in range(3)]
    store.write(
        cluster.pk,
        STREAM,
        Batch(
            rows=rows,
            infos=[SeriesInfo(POD, "n1", {"phase": "Running", "image": "<b>x"})],
            windows=[window(T0, T0 + 300), window(T0 + 300, T0 + 360, "gap", detail="no session"),
                     window(T0 + 360, T0 + 600)],
            head=T0 + 600,
        ),
    )  # fmt: skip
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {api_token(viewer)}")
    with time_machine.travel(datetime.fromtimestamp(NOW, UTC), tick=False):
        yield lambda path: client.get(f"/api/v1/clusters/{cluster.pk}/{path}")


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def test_nodes_come_with_values_units_and_the_time_they_are_of(api):
    body = api("nodes/").json()
    assert (body["count"], body["as_of"]) == (1, iso(T0 + 600))
    assert body["units"]["cpu_mc"] == "millicores"
    (node,) = body["results"]
    assert (node["name"], node["present"], node["as_of"]) == ("n1", True, iso(T0 + 600))
    assert node["values"]["cpu_mc"] == 109
    assert node["values"]["mem_ws"] is None
    assert set(node["values"]) == set(FIELD_NAMES["node"]) == set(body["units"])


def test_pods_are_ordered_searched_and_paged(api):
    assert [pod["name"] for pod in api("pods/").json()["results"]] == [
        "web-1", "web-2", "web-1", "web-0",
    ]  # fmt: skip
    body = api("pods?order=name&q=WEB/&page_size=2").json()
    assert [pod["name"] for pod in body["results"]] == ["web-0", "web-1"]
    assert (body["count"], "page=2" in body["next"]) == (3, True)
    (pod,) = api("pods?node=n1").json()["results"]
    assert (pod["ns"], pod["node"]) == ("default", "n1")
    assert pod["attributes"] == {"phase": "Running", "image": "<b>x"}


def test_filesystems_name_their_node(api):
    (disk,) = api("filesystems?node=n1").json()["results"]
    assert (disk["ns"], disk["name"], disk["values"]["used"]) == ("n1", "/var", 9)
    assert api("filesystems?node=n2").json()["results"] == []


def test_a_range_is_columns_with_tier_unit_and_gaps(api):
    body = api(f"range?kind=node&name=n1&field=cpu_mc&start={T0}&end={T0 + 600}").json()
    assert (body["tier"], body["unit"], body["step"]) == ("1m", "millicores", 60)
    assert body["t"] == [T0 + 60 * m for m in range(10) if m != 5]
    assert body["mean"] == body["min"] == body["max"] == [100 + m for m in range(10) if m != 5]
    assert body["coverage"] == [1] * 9
    assert body["gaps"] == [
        {"start": T0 + 300, "end": T0 + 360, "state": "gap", "reason": "tunnel_down",
         "detail": "no session"}
    ]  # fmt: skip
    assert (body["start"], body["end"], body["as_of"]) == (T0, T0 + 600, T0 + 600)


def test_both_forms_of_a_range_keep_their_query(api):
    query = "?kind=cluster&field=nodes_ready"
    assert api(f"range{query}").json() == api(f"range/{query}").json()


def test_a_series_that_does_not_exist_has_empty_columns(api):
    body = api("range?kind=pod&ns=x&name=y&field=cpu_mc").json()
    assert body["t"] == body["mean"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "kind"),
        ("kind=planet&name=x&field=cpu_mc", "kind"),
        ("kind=node&field=cpu_mc", "name"),
        ("kind=cluster&name=x&field=cpu_mc", "name"),
        ("kind=pod&name=x&field=cpu_mc", "ns"),
        ("kind=node&name=x&ns=y&field=cpu_mc", "ns"),
        ("kind=node&name=x", "field"),
        ("kind=node&name=x&field=restarts", "field"),
        ("kind=node&name=x&field=cpu_mc&start=x", "start"),
        ("kind=node&name=x&field=cpu_mc&start=1e9", "start"),
        ("kind=node&name=x&field=cpu_mc&start=-1", "start"),
        ("kind=node&name=x&field=cpu_mc&start=9&end=9", "end"),
        ("kind=node&name=x&field=cpu_mc&points=1", "points"),
        ("kind=node&name=x&field=cpu_mc&points=1441", "points"),
        (f"kind=node&name={'x' * 301}&field=cpu_mc", "name"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_by_field(api, query, field):
    response = api(f"range?{query}")
    assert (response.status_code, list(response.json()["error"]["fields"])) == (400, [field])


def test_a_range_of_more_than_ten_years_is_refused(api):
    response = api("range?kind=node&name=n1&field=cpu_mc&start=0&end=1000000000")
    assert response.status_code == 400
    assert "ten years" in response.json()["error"]["message"]


def test_the_ledger_is_listed_and_filtered(api):
    body = api(f"windows?start={T0}&end={T0 + 600}").json()
    assert [line["state"] for line in body["results"]] == ["done", "gap", "done"]
    (gap,) = api("windows?state=gap&state=lost").json()["results"]
    assert gap == {
        "start": T0 + 300, "end": T0 + 360, "state": "gap", "got_minutes": 0,
        "expected_minutes": 1, "attempts": 1, "reason": "tunnel_down", "detail": "no session",
        "filled_at": None,
    }  # fmt: skip
    assert api("windows?state=purple").status_code == 400
    assert api("windows?start=5&end=4").status_code == 400


def test_a_store_that_is_away_is_503_without_its_reason(api, monkeypatch):
    def broken(*args, **kwargs):
        raise StoreError("/secret/path is damaged")

    monkeypatch.setattr(type(get_store()), "last", broken)
    response = api("nodes/")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "metrics_unavailable"
    assert b"secret" not in response.content


@pytest.mark.parametrize("path", ["nodes", "pods", "filesystems", "windows"])
def test_a_list_of_numbers_costs_four_queries(api, path, django_assert_num_queries):
    api(path)
    with django_assert_num_queries(4):  # the token, its user's others, the role, the cluster
        assert api(path).status_code == 200
