"""The API about numbers: nodes, pods, filesystems, ranges and the ledger."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from io import StringIO

import pytest
import time_machine
from rest_framework.test import APIClient

from clusters.models import AuditEvent
from metrics.query import STREAM
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesInfo, SeriesKey
from metrics.stores import StoreError, get_store
from metrics.stores.writer import Batch
from tests.factories import api_token
from tests.metrics.stores.contract import NODE, POD, T0, row, window
from tests.metrics.stores.sqlite.damage import damage

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
         "detail": "1 of 1 minute is missing: no session", "got": 0, "expected": 1}
    ]  # fmt: skip
    assert (body["start"], body["end"], body["as_of"]) == (T0, T0 + 600, T0 + 600)


@pytest.mark.sqlite_only(reason="breaks a chunk of SQLite's file")
def test_a_range_names_what_is_damaged_in_the_store(api, store, settings):
    store.maintain(NOW + 40 * 86_400)
    damage(settings.METRICS_SQLITE_PATH)
    path = f"range?kind=pod&ns=web&name=web-1&field=cpu_mc&start={T0}&end={T0 + 600}"
    damaged = {"start": T0 + 540, "end": T0 + 600, "state": "lost", "reason": "store_damaged",
               "detail": "", "got": 0, "expected": 1}  # fmt: skip
    for find_out in (lambda: "not yet", store.check):
        find_out()
        body = api(path).json()
        assert body["t"] == []
        assert body["gaps"][1:] == [damaged]
    *_, line = csv.DictReader(StringIO(api(f"{path}&format=csv").content.decode()))
    assert line["note"] == f"no data until {iso(T0 + 600)}: store_damaged"
    assert (
        len(api(path.replace("kind=pod&ns=web&name=web-1", "kind=node&name=n1")).json()["gaps"])
        == 1
    )


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
        "filled_at": None, "resolution_seconds": 60,
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


@pytest.mark.sqlite_only(reason="InfluxDB's index is in Django's database, and costs 1 or 2 more")
@pytest.mark.parametrize("path", ["nodes", "pods", "filesystems", "windows"])
def test_a_list_of_numbers_costs_three_queries(api, path, django_assert_num_queries):
    api(path)
    with django_assert_num_queries(3):  # the token, the role, the cluster
        assert api(path).status_code == 200


def test_a_range_comes_with_the_former_one_if_asked(api, store, cluster):
    rows = [row(NODE, T0 - 86_400 + 60 * m, cpu_mc=50) for m in range(5)]
    store.write(cluster.pk, STREAM, Batch(rows=rows, head=T0))
    path = f"range?kind=node&name=n1&field=cpu_mc&start={T0}&end={T0 + 600}"
    assert api(path).json()["comparison"] is None
    found = api(f"{path}&compare=day").json()["comparison"]
    assert found["offset"] == 86_400
    assert found["former"]["t"] == [T0 - 86_400 + 60 * m for m in range(5)]
    assert found["change"] == {
        "mean": 102, "former_mean": 50, "ratio": 1.04, "share": 5 / 9,
    }  # fmt: skip
    assert api(f"{path}&compare=year").status_code == 400
    early = api("range?kind=node&name=n1&field=cpu_mc&start=60&end=120&compare=day")
    assert list(early.json()["error"]["fields"]) == ["compare"]


def test_a_range_is_a_csv_file_that_no_spreadsheet_takes_for_formulas(api, store, cluster):
    evil = SeriesKey("pod", "=1+1", "@evil")
    store.write(cluster.pk, STREAM, Batch(rows=[row(evil, T0 + 60, cpu_mc=3)]))
    answer = api(f"range?kind=pod&ns=%3D1%2B1&name=@evil&field=cpu_mc&start={T0}&end={T0 + 600}"
                 "&format=csv&compare=week")  # fmt: skip
    assert answer["Content-Type"].startswith("text/csv")
    assert "attachment" in answer["Content-Disposition"]
    lines = list(csv.DictReader(StringIO(answer.content.decode())))
    assert [(line["range"], line["tier"], line["unix_s"]) for line in lines] == [
        ("asked", "1m", str(T0 + 60)), ("asked", "1m", str(T0 + 300)),
    ]  # fmt: skip
    assert (lines[0]["namespace"], lines[0]["name"], lines[0]["mean"]) == ("'=1+1", "'@evil", "3")
    assert (lines[0]["samples"], lines[0]["expected"], lines[0]["unit"]) == ("1", "1", "millicores")
    assert "tunnel_down" in lines[1]["note"]
    assert lines[1]["mean"] == ""
    assert AuditEvent.objects.filter(action="data.export", cluster_id=cluster.pk).count() == 1


def test_the_largest_pods_of_a_cluster_and_of_all_that_is_seen(
    api, viewer, cluster, foreign_cluster, store
):
    body = api(f"top?start={T0}&end={T0 + 600}&limit=2").json()
    assert [(e["ns"], e["name"], e["mean"]) for e in body["entries"]] == [
        ("default", "web-1", 7), ("web", "web-2", 2),
    ]  # fmt: skip
    assert (body["unit"], body["by"], body["tiers"], body["clusters"]) == (
        "millicores", "mean", ["1m"], 1,
    )  # fmt: skip
    store.write(foreign_cluster.pk, STREAM, Batch(rows=[row(POD, T0 + 540, cpu_mc=999)]))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {api_token(viewer, name='2')}")
    fleet = client.get(f"/api/v1/top?start={T0}&end={T0 + 600}&limit=2").json()
    assert fleet == body
    nodes = client.get(f"/api/v1/top?kind=node&by=max&start={T0}&end={T0 + 600}").json()
    assert [(e["name"], e["max"], e["samples"], e["expected"]) for e in nodes["entries"]] == [
        ("n1", 109, 9, 10)
    ]  # fmt: skip
    file = client.get(f"/api/v1/top?start={T0}&end={T0 + 600}&format=csv")
    (first, *_) = csv.DictReader(StringIO(file.content.decode()))
    assert (first["rank"], first["name"], first["mean"], first["customer"]) == (
        "1", "web-1", "7", "Northwind",
    )  # fmt: skip
    for query in (
        "limit=0",
        "limit=501",
        "by=median",
        "field=load1_m",
        "format=xml",
        "start=9&end=8",
    ):
        assert client.get(f"/api/v1/top?{query}").status_code == 400
