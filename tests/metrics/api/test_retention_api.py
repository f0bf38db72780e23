"""Retention over the API: classes, what customers have, holds; administrators change it."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from clusters.models import AuditEvent, LegalHold
from metrics.models import CustomerRetention, RetentionClass
from metrics.series.catalog import default_limits
from metrics.series.windows import DAY
from tests.factories import api_token
from tests.metrics.deletion.expiring import days, store_hours

pytestmark = pytest.mark.django_db
API = "/api/v1"
CLASSES = f"{API}/retention-classes/"


@pytest.fixture
def api():
    def of(user) -> APIClient:
        client = APIClient(raise_request_exception=False)
        client.credentials(HTTP_AUTHORIZATION=f"Token {api_token(user)}")
        return client

    return of


def test_an_administrator_makes_changes_and_deletes_a_class(api, admin):
    client = api(admin)
    made = client.post(CLASSES, {"name": "Bank", "limits": days(7, 90, 3650)}, format="json")
    assert made.status_code == 201, made.content
    assert made.json() == {
        "id": made.json()["id"], "name": "Bank", "is_default": False,
        "limits": days(7, 90, 3650), "customers": [],
    }  # fmt: skip
    one = f"{CLASSES}{made.json()['id']}/"
    changed = client.patch(one, {"limits": days(7, 90, 1000)}, format="json").json()
    assert changed["saved"]
    assert changed["retention_class"]["limits"]["pod"]["1h"] == 1000
    assert client.get(one).json() == changed["retention_class"]
    assert client.delete(one).status_code == 204
    assert client.get(one).status_code == 404
    assert [line["name"] for line in client.get(CLASSES).json()["results"]] == ["Standard"]


def test_a_dry_run_says_what_goes_and_saves_nothing(api, admin, cluster):
    import time

    from metrics.stores import get_store
    from metrics.stores.writer import Batch
    from tests.metrics.stores.contract import NODE, row

    minute = int(time.time()) // 3600 * 3600 - 6 * DAY
    get_store().write(cluster.pk, "agent", Batch(rows=[row(NODE, minute, cpu_mc=1)]))
    standard = RetentionClass.objects.get()
    one = f"{CLASSES}{standard.pk}/"
    sent = {"limits": days(1, 90, 730), "dry_run": True}
    answer = api(admin).patch(one, sent, format="json").json()
    assert not answer["saved"]
    effect = answer["effect"]
    assert (effect["clusters"], effect["held"], effect["counted"]) == (1, 0, 1)
    assert {line["tier"] for line in effect["deletes"]} == {"1m"}
    node = next(line for line in effect["deletes"] if line["kind"] == "node")
    assert (node["days_before"], node["days"], node["rows"]) == (7, 1, 1)
    assert node["oldest"].endswith("Z")
    assert effect["due_at"] is not None
    standard.refresh_from_db()
    assert standard.limits == default_limits()
    assert not AuditEvent.objects.filter(action="retention_class.change").exists()


def test_limits_that_make_no_sense_are_refused_and_named(api, admin):
    client = api(admin)
    for limits, said in (
        (days(91, 90, 730), "keep a coarser tier at least as long"),
        ({"pod": {"1m": 1}}, "node: give days for"),
        ([], "Give an object"),
        (days(0, 90, 730), "use 1 to 3660 days"),
    ):
        answer = client.post(CLASSES, {"name": "Odd", "limits": limits}, format="json")
        assert answer.status_code == 400
        assert said in str(answer.json()["error"]["fields"]["limits"])
    taken = client.post(CLASSES, {"name": "Standard", "limits": days(1, 2, 3)}, format="json")
    assert taken.status_code == 409


def test_a_customer_gets_a_class_and_the_default_back(api, admin, cluster):
    row = RetentionClass.objects.create(name="Bank", limits=days(30, 365, 3650))
    url = f"{API}/customers/{cluster.customer_id}/retention/"
    client = api(admin)
    dry = client.patch(url, {"retention_class_id": row.pk, "dry_run": True}, format="json").json()
    assert (dry["saved"], dry["retention"]["retention_class"]["name"]) == (False, "Standard")
    given = client.patch(url, {"retention_class_id": row.pk}, format="json").json()
    assert given["retention"]["retention_class"] == {"id": row.pk, "name": "Bank"}
    assert given["retention"]["limits"] == days(30, 365, 3650)
    (line,) = client.get(f"{API}/customers/").json()["results"]
    assert (line["name"], line["clusters"], line["legal_hold"]) == ("Northwind", 1, False)
    assert line["retention_class"]["name"] == "Bank"
    assert client.delete(f"{CLASSES}{row.pk}/").status_code == 409
    back = client.patch(url, {"retention_class_id": None}, format="json").json()
    assert back["retention"]["retention_class"]["name"] == "Standard"
    assert back["effect"]["due_at"] is not None
    assert not CustomerRetention.objects.exists()
    kept = client.get(f"{API}/clusters/{cluster.pk}/retention/").json()
    assert kept["limits"]["pod"]["1m"] == 30  # in force until the grace is over
    assert kept["wanted"]["pod"]["1m"] == 7
    assert kept["due_at"] is not None
    assert client.patch(url, {"retention_class_id": 99999}, format="json").status_code == 404


def test_an_auditor_sees_all_of_it_and_changes_nothing(api, auditor, cluster, admin):
    client = api(auditor)
    for path in (CLASSES, f"{API}/customers/{cluster.customer_id}/retention/"):
        assert client.get(path).status_code == 200
    tries = (
        client.post(CLASSES, {}, format="json"),
        client.patch(f"{CLASSES}1/", {}, format="json"),
        client.delete(f"{CLASSES}1/"),
        client.patch(f"{API}/customers/{cluster.customer_id}/retention/", {}, format="json"),
        client.post(f"{API}/customers/{cluster.customer_id}/hold/", {}, format="json"),
        client.post(f"{API}/clusters/{cluster.pk}/hold/", {"reason": "x"}, format="json"),
    )
    assert {answer.status_code for answer in tries} == {403}
    assert not LegalHold.objects.exists()


def test_a_hold_is_placed_seen_and_lifted(api, admin, auditor, viewer, cluster):
    client = api(admin)
    for path, on in ((f"customers/{cluster.customer_id}", "customer"),
                     (f"clusters/{cluster.pk}", "cluster")):  # fmt: skip
        placed = client.post(f"{API}/{path}/hold/", {"reason": "court file 7"}, format="json")
        assert placed.status_code == 201, placed.content
        assert (placed.json()["on"], placed.json()["reason"]) == (on, "court file 7")
        again = client.post(f"{API}/{path}/hold/", {"reason": "x"}, format="json")
        assert again.status_code == 409
    assert client.delete(f"{API}/clusters/{cluster.pk}/").status_code == 409
    assert client.delete(f"{API}/clusters/{cluster.pk}/").json()["error"]["code"] == "legal_hold"
    seen = api(auditor).get(f"{API}/clusters/{cluster.pk}/retention/").json()["legal_holds"]
    assert [(hold["on"], hold["placed_by"]) for hold in seen] == [
        ("customer", "admin"), ("cluster", "admin"),
    ]  # fmt: skip
    for path in (f"customers/{cluster.customer_id}", f"clusters/{cluster.pk}"):
        assert client.delete(f"{API}/{path}/hold/").status_code == 204
        assert client.delete(f"{API}/{path}/hold/").status_code == 404
    assert not LegalHold.objects.exists()
    assert AuditEvent.objects.filter(action__startswith="hold.").count() == 4


def test_a_customer_sees_that_a_hold_stands_but_not_why_nor_by_whom(api, admin, viewer, cluster):
    api(admin).post(
        f"{API}/customers/{cluster.customer_id}/hold/", {"reason": "suspicion"}, format="json"
    )
    answer = api(viewer).get(f"{API}/customers/{cluster.customer_id}/retention/")
    (hold,) = answer.json()["legal_holds"]
    assert (hold["reason"], hold["placed_by"]) == (None, None)
    assert hold["placed_at"]
    assert b"suspicion" not in answer.content


def test_a_customer_lists_itself_only(api, viewer, cluster, foreign_cluster):
    names = [line["name"] for line in api(viewer).get(f"{API}/customers/").json()["results"]]
    assert names == ["Northwind"]
    foreign = f"{API}/customers/{foreign_cluster.customer_id}/retention/"
    absent = f"{API}/customers/00000000-0000-0000-0000-000000000000/retention/"
    assert api(viewer).get(foreign).content == api(viewer).get(absent).content
    store_hours(cluster.pk, 0)
    assert api(viewer).get(f"{API}/clusters/{cluster.pk}/retention/").status_code == 200


def test_a_customer_is_erased_over_the_api_with_its_name(api, admin, auditor, cluster):
    url = f"{API}/customers/{cluster.customer_id}/erase/"
    assert api(admin).post(url, {"confirm": "North"}, format="json").status_code == 400
    assert api(auditor).post(url, {"confirm": "Northwind"}, format="json").status_code == 403
    begun = api(admin).post(url, {"confirm": "Northwind"}, format="json")
    assert begun.status_code == 202
    assert (begun.json()["state"], begun.json()["clusters"]) == ("running", 1)
    again = api(admin).post(url, {"confirm": "Northwind"}, format="json")
    assert again.status_code == 409
    one = api(auditor).get(f"{API}/erasures/{begun.json()['id']}/").json()
    assert one == api(auditor).get(f"{API}/erasures/").json()["results"][0] == begun.json()
