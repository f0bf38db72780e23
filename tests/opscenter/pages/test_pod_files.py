"""Lists of the newest minute as files: all of the list, nothing invisible, nothing harmful."""

from __future__ import annotations

import csv
import io
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from clusters.models import AuditEvent, Cluster, ClusterStatus
from metrics.series.rows import MinuteRow, SeriesKey
from metrics.stores import get_store
from metrics.stores.writer import Batch
from tests.factories import ClusterFactory, healthy
from tests.opscenter.pages.measured import EVIL, FORMULA, cells, measure

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


def test_pods_of_a_cluster_whose_clock_is_off_are_found_and_dated_by_ours(client, alpha):
    """Its minutes are named an hour too late or too early, and are as new as any."""
    measure(alpha)
    for ahead in (0, 3600, -3600):
        skewed = healthy(datetime.now(UTC), clock_skew_ms=ahead * 1000)
        other = ClusterFactory(name=f"beta{ahead}", **skewed)
        measure(other, pod=("shop", f"off-by-{ahead}"), shift=ahead)
        found = {line["name"]: line for line in lines(client, "/pods.csv?within=15m")}
        times = [found[name]["as_of_utc"] for name in ("cart-1", f"off-by-{ahead}")]
        mine, theirs = map(datetime.fromisoformat, times)
        assert abs(theirs - mine) <= timedelta(minutes=1)
        assert f"off-by-{ahead}" in client.get("/pods/").content.decode()
        (pod,) = client.get(f"/api/v1/clusters/{other.pk}/pods/").json()["results"]
        assert datetime.fromisoformat(pod["as_of"]) == theirs


def test_a_file_of_minutes_says_by_how_much_the_clock_is_off(client, alpha):
    measure(alpha)
    ClusterStatus.objects.update(clock_skew_ms=90_000)
    url = f"/clusters/{alpha.pk}/chart/cpu.csv?kind=node&name=node-1&range=1h"
    assert {line["clock_ahead_s"] for line in lines(client, url)} == {"90"}


@pytest.mark.parametrize("path", ["/pods/", "/pods/?over=1h", "/history/"])
def test_who_sees_no_cluster_is_told_so_and_not_that_nothing_was_measured(
    client, viewer, operator, path
):
    client.force_login(viewer)
    ClusterFactory(name="of-others")
    text = client.get(path).content.decode()
    assert "Your account does not have access to any cluster yet." in text
    assert "No pods" not in text
    Cluster.objects.all().delete()
    client.force_login(operator)
    assert "No clusters yet" in client.get(path).content.decode()


def test_the_pager_says_of_how_many(client, alpha):
    measure(alpha)
    rows = [
        MinuteRow(int(time.time()) // 60 * 60 - 60, SeriesKey("pod", "shop", f"many-{n}"),
                  cells("pod", cpu_mc=n + 1)) for n in range(120)
    ]  # fmt: skip
    get_store().write(alpha.pk, "agent", Batch(rows))
    for url in (
        "/pods/?q=many",
        "/pods/?q=many&over=1h",
        f"/clusters/{alpha.pk}/?tab=pods&over=1h&q=many",
    ):
        text = " ".join(client.get(url).content.decode().split())
        assert "1\N{EN DASH}50 of 120 pods" in text, url
        assert "101\N{EN DASH}120 of 120 pods" in " ".join(
            client.get(f"{url}&page=3").content.decode().split()
        )


def test_a_list_over_a_range_says_what_part_of_it_a_pod_was_measured(client, alpha):
    """A pod that lives for a minute has not been measured for 100 % of an hour."""
    measure(alpha)
    newest = int(time.time()) // 60 * 60 - 60
    row = MinuteRow(newest, SeriesKey("pod", "shop", "young"), cells("pod", cpu_mc=5))
    get_store().write(alpha.pk, "agent", Batch([row]))
    text = " ".join(client.get("/pods/?over=1h&q=young").content.decode().split())
    assert "First seen" in text
    share = re.search(
        r'data-label="Measured" title="([^"]*)"> (\d+) % <small>of 1 hour</small>', text
    )
    assert share is not None
    assert int(share[2]) < 10
    assert share[1].startswith("1 of ")
    assert share[1].endswith("; there for 1")


def test_a_list_without_pods_offers_no_file(client, alpha):
    assert "pods.csv" not in client.get(f"/clusters/{alpha.pk}/?tab=pods").content.decode()
    assert "pods.csv" not in client.get("/pods/?q=nothing").content.decode()
