"""Who came in, who was refused, who left."""

from __future__ import annotations

import pytest

from clusters.models import AuditEvent
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db
URL = "/accounts/login/"


def test_a_sign_in_and_a_sign_out_are_recorded(client, operator):
    assert client.post(URL, {"login": "operator", "password": PASSWORD}).status_code == 302
    client.post("/accounts/logout/")
    assert list(AuditEvent.objects.values_list("actor", "action", "ok", "detail")) == [
        ("operator", "user.sign_in", True, {"from": "127.0.0.1"}),
        ("operator", "user.sign_out", True, {"from": "127.0.0.1"}),
    ]


def test_a_wrong_password_is_recorded_without_it(client, operator):
    client.post(URL, {"login": "operator", "password": "guess-guess-guess"})
    line = AuditEvent.objects.get()
    assert (line.actor, line.ok, line.detail["user"]) == ("visitor", False, "operator")
    assert "guess" not in str(line.detail)


def test_an_export_is_recorded_with_its_content_and_range(client, viewer, cluster):
    client.post(URL, {"login": "viewer", "password": PASSWORD})
    address = f"/clusters/{cluster.pk}/chart/cpu.csv?kind=node&name=node-1&range=1h"
    assert client.get(address).status_code == 200
    assert client.get(address.replace(".csv", ".json")).status_code == 200
    (line,) = AuditEvent.objects.filter(action="data.export")
    assert (line.actor, line.cluster_id) == ("viewer", cluster.pk)
    assert (line.detail["kind"], line.detail["name"]) == ("node", "node-1")
    assert line.detail["end"] - line.detail["start"] == 3600
