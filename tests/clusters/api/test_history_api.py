"""The history, the inventory of nodes, and the dismissal of a missing one, over the API."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from clusters.models import AuditEvent, ClusterEvent, ClusterNode, ClusterStatus
from tests.factories import NOW, api_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def api():
    def of(user) -> APIClient:
        client = APIClient(raise_request_exception=False)
        client.credentials(HTTP_AUTHORIZATION=f"Token {api_token(user)}")
        return client

    return of


def at(minutes):
    return NOW + timedelta(minutes=minutes)


def event(cluster, key, began, ended=None, **columns):
    end = {} if ended is None else {"ended_at": at(ended), "ended_known_at": at(ended + 1)}
    return ClusterEvent.objects.create(
        cluster=cluster, key=key, began_at=at(began), began_known_at=at(began + 1),
        **{"level": "degraded", **end, **columns},
    )  # fmt: skip


def test_the_history_of_a_span_newest_first(api, viewer, cluster, foreign_cluster):
    event(cluster, "state", 0, 10, level="ok", ending="changed")
    event(cluster, "state", 10, text="1 of 3 nodes is not ready: n3", began_at_least=True)
    event(cluster, "node:n3", 10)
    event(foreign_cluster, "state", 10)
    url = f"/api/v1/clusters/{cluster.pk}/history/"
    client = api(viewer)
    body = client.get(url, {"key": "state"}).json()
    assert body["count"] == 2
    assert body["results"][0] == {
        "key": "state", "level": "degraded", "text": "1 of 3 nodes is not ready: n3",
        "began_at": "2026-03-01T12:10:00Z", "began_at_least": True,
        "began_known_at": "2026-03-01T12:11:00Z", "ended_at": None, "ended_known_at": None,
        "ending": "",
    }  # fmt: skip
    span = {"start": "2026-03-01T12:00:00Z", "end": "2026-03-01T12:05:00Z"}
    assert [row["level"] for row in client.get(url, span).json()["results"]] == ["ok"]
    late = client.get(url, {"start": "2026-03-01T14:10:00+02:00"}).json()["results"]
    assert [row["key"] for row in late] == ["node:n3", "state"]
    assert client.get(url, {"start": "yesterday"}).status_code == 400
    assert client.get(url, {"keys": "state"}).status_code == 400
    assert client.get(f"/api/v1/clusters/{foreign_cluster.pk}/history/").status_code == 404


@pytest.fixture
def missing(cluster):
    """A node that sends nothing for an hour, beside one that does."""
    ClusterStatus.objects.update_or_create(cluster=cluster, defaults={"data_as_of": at(60)})
    for name, seen in (("n1", 60), ("n2", 0)):
        ClusterNode.objects.create(
            cluster=cluster, name=name, first_seen_at=NOW, last_seen_at=at(seen),
            listed_by="prometheus",
        )  # fmt: skip
    return cluster


def test_the_inventory_tells_what_is_present_from_what_is_missing(api, viewer, missing):
    body = api(viewer).get(f"/api/v1/clusters/{missing.pk}/inventory/").json()
    assert [(row["name"], row["place"]) for row in body["results"]] == [
        ("n1", "present"), ("n2", "missing"),
    ]  # fmt: skip
    assert body["results"][1]["last_seen_at"] == "2026-03-01T12:00:00Z"
    assert body["results"][1]["dismissed_by"] is None


def test_an_operator_dismisses_a_missing_node_and_only_such_a_one(api, operator, viewer, missing):
    url = f"/api/v1/clusters/{missing.pk}/nodes/{{}}/dismiss/"
    assert api(viewer).post(url.format("n2")).status_code == 403
    client = api(operator)
    answer = client.post(url.format("n2"))
    assert answer.status_code == 200, answer.content
    assert (answer.json()["place"], answer.json()["dismissed_by"]) == ("dismissed", "operator")
    assert AuditEvent.objects.get(action="node.dismiss").detail == {"node": "n2"}
    again = client.post(url.format("n2"))
    assert (again.status_code, again.json()["error"]["message"]) == (
        409, "name: only a missing node can be dismissed; this one is dismissed",
    )  # fmt: skip
    assert client.post(url.format("n1")).status_code == 409
    assert client.post(url.format("n9")).status_code == 404
