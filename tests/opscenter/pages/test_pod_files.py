"""Lists of the newest minute as files: all of the list, nothing invisible, nothing harmful."""

from __future__ import annotations

import csv
import io
import re

import pytest

from clusters.models import AuditEvent
from tests.opscenter.pages.measured import EVIL, FORMULA, measure

pytestmark = pytest.mark.django_db


def lines(client, url: str) -> list[dict[str, str]]:
    response = client.get(url)
    assert response.status_code == 200
    assert response.headers["Content-Disposition"].startswith("attachment; filename=")
    return list(csv.DictReader(io.StringIO(response.content.decode())))


def link(client, page: str) -> str:
    text = client.get(page).content.decode()
    return re.search(r'href="([^"]*pods\.csv[^"]*)"', text).group(1).replace("&amp;", "&")


def test_the_newest_pods_of_a_cluster_are_exported_as_they_are_listed(client, alpha):
    measure(alpha, pod=(FORMULA, EVIL))
    url = link(client, f"/clusters/{alpha.pk}/?tab=pods&order=mem_ws&q=script")
    (line,) = lines(client, url)
    assert (line["cluster"], line["namespace"], line["name"]) == ("alpha", f"'{FORMULA}", EVIL)
    assert (line["cpu_mc (millicores)"], line["net_rx_bps (bytes/s)"]) == ("200", "")
    assert (line["node"], line["running"]) == ("node-1", "yes")
    event = AuditEvent.objects.get(action="data.export", cluster_id=alpha.pk)
    assert event.detail["q"] == "script"
    assert lines(client, f"/clusters/{alpha.pk}/pods.csv?q=nothing") == []


def test_the_newest_pods_of_all_clusters_keep_to_what_the_user_may_see(
    client, viewer, cluster, foreign_cluster
):
    measure(cluster, pod=("shop", "mine"))
    measure(foreign_cluster, pod=("shop", "theirs"))
    client.force_login(viewer)
    (line,) = lines(client, link(client, "/pods/?q=shop&order=name"))
    assert (line["name"], line["customer"]) == ("mine", cluster.customer.name)
    assert client.get(f"/clusters/{foreign_cluster.pk}/pods.csv").status_code == 404
    assert lines(client, "/pods.csv?customer=nobody") == []


def test_a_list_without_pods_offers_no_file(client, alpha):
    assert "pods.csv" not in client.get(f"/clusters/{alpha.pk}/?tab=pods").content.decode()
    assert "pods.csv" not in client.get("/pods/?q=nothing").content.decode()
