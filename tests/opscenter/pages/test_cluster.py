"""The pages of a cluster, its nodes and pods: what they say, and that names cannot do harm."""

from __future__ import annotations

import csv
import html
import io
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import orjson
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from clusters.models import Cluster, ClusterStatus, TunnelSession
from metrics.series.rows import MinuteRow, SeriesInfo, SeriesKey
from metrics.stores import StoreError, get_store
from metrics.stores.writer import Batch
from tests.factories import ClusterFactory, TunnelSessionFactory, healthy
from tests.opscenter.pages.measured import EVIL, FORMULA, cells, measure, page

pytestmark = pytest.mark.django_db


def test_the_overview_says_health_first_then_facts_nodes_and_pods(client, alpha):
    measure(alpha)
    text = page(client, alpha, "range=1h")
    assert text.index('class="st ok"') < text.index("nodes ready") < text.index("CPU used")
    for part in ("node-1", "cart-1", "Coverage, last 1 h", "region=eu", "75 %"):
        assert part in text, part
    assert text.count("<figure") == 5
    assert 'class="lost"' in text


def test_the_age_of_a_node_and_of_a_pod_is_by_our_clock_though_theirs_is_ahead(client, alpha):
    measure(alpha)
    ClusterStatus.objects.update(clock_skew_ms=3_600_000)
    newest = int(time.time()) // 60 * 60 - 3600
    theirs = f'datetime="{datetime.fromtimestamp(newest, UTC):%Y-%m-%dT%H:%M:%SZ}" data-age'
    for path in (f"clusters/{alpha.pk}/nodes/node-1/", f"clusters/{alpha.pk}/pods/shop/cart-1/",
                 "pods/?within=1d"):  # fmt: skip
        text = client.get(f"/{path}").content.decode()
        assert theirs in text, path
        assert 'class="old"' in text, path


@pytest.mark.parametrize("node", ["", "node-that-sent-nothing"])
def test_a_pod_without_a_known_node_has_no_shares_and_breaks_no_page(client, alpha, node):
    measure(alpha, pod=("shop", "web-1"))
    key = SeriesKey("pod", "shop", "cart-1")
    newest = int(time.time()) // 60 * 60 - 60
    rows = [MinuteRow(newest, key, cells("pod", cpu_mc=200, mem_ws=1 << 20))]
    get_store().write(alpha.pk, "agent", Batch(rows, [SeriesInfo(key, node, {})]))
    for query in ("tab=pods", "tab=pods&q=cart", "tab=overview"):
        assert "cart-1" in page(client, alpha, query)
    assert client.get(f"/clusters/{alpha.pk}/pods/shop/cart-1/").status_code == 200


@pytest.mark.parametrize("path", ["nodes/node-9/", "pods/shop/cart-9/"])
def test_what_a_cluster_does_not_have_is_not_found_and_names_the_cluster(client, alpha, path):
    answer = client.get(f"/clusters/{alpha.pk}/{path}")
    text = " ".join(answer.content.decode().split())
    assert answer.status_code == 404
    assert f'<a href="/clusters/{alpha.pk}/">alpha</a>' in text
    assert f"called {path.split('/')[-2]}</h1>" in text


def test_a_silent_cluster_is_unknown_and_its_last_data_stays(client, operator):
    client.force_login(operator)
    ago = datetime.now(UTC) - timedelta(hours=2)
    quiet = healthy(ago, tunnel_up=False, tunnel_reason="keepalive time-out")
    cluster = ClusterFactory(name="quiet", **quiet)
    measure(cluster)
    text = page(client, cluster)
    assert "Unknown since" in " ".join(text.split())
    assert "(was ok)" in text
    assert "It may be out of date" in text
    assert "was ready" in text
    assert 'class="st ok"' not in text


@pytest.mark.parametrize(("seen", "is_told"), [(0, False), (20, True)])
def test_a_tunnel_is_called_silent_only_where_the_hub_did_not_see_it(
    client, operator, seen, is_told
):
    client.force_login(operator)
    now = datetime.now(UTC)
    late = {"data_as_of": now - timedelta(minutes=20), "pull_error_code": "service_down"}
    late["tunnel_seen_at"] = now - timedelta(minutes=seen)
    cluster = ClusterFactory(name="late", **healthy(**late, now=now))
    for tab in ("overview", "tunnel"):
        assert ("not answering" in page(client, cluster, f"tab={tab}")) is is_told


def test_while_the_numbers_cannot_be_read_pages_show_what_is_known(client, alpha, monkeypatch):
    measure(alpha)

    def away(*_: object, **__: object) -> None:
        msg = "http://secret-address does not answer"
        raise StoreError(msg)

    for name in ("read", "read_fields", "read_many", "top"):
        monkeypatch.setattr(type(get_store()), name, away)
    for tab in ("overview", "nodes", "pods", "data"):
        assert "secret-address" not in page(client, alpha, f"tab={tab}")
    assert "cannot be read now" in page(client, alpha, "tab=nodes")
    for path in ("nodes/node-1/", "pods/shop/cart-1/"):
        assert client.get(f"/clusters/{alpha.pk}/{path}").status_code == 200
    why = "The metric store cannot be read at the moment; Ops Center's log says why."
    answer = client.get(f"/clusters/{alpha.pk}/?tab=pods&over=24h")
    assert (answer.status_code, why in html.unescape(answer.content.decode())) == (503, True)
    chart = reverse("chart", args=[alpha.pk, "cpu", "json"])
    answer = client.get(chart, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.content.decode()) == (503, why)
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_an_identity_used_twice_is_shown_on_top(client, alpha):
    Cluster.objects.update(conflict_at=datetime.now(UTC), conflict_detail="from 192.0.2.1 and .2")
    text = page(client, alpha)
    assert "in use in two places" in text
    assert "from 192.0.2.1 and .2" in text


def test_the_tunnel_tab_lists_drops_and_why(client, alpha):
    now = datetime.now(UTC)
    TunnelSessionFactory(
        cluster=alpha, connected_at=now - timedelta(hours=3), ended_at=now, state="gone",
        end_reason="keepalive time-out", client_version=EVIL[:90],
    )  # fmt: skip
    text = page(client, alpha, "tab=tunnel")
    assert "keepalive time-out" in text
    assert "3 h" in text
    assert "<script>alert" not in text


def test_a_tunnel_of_which_the_hub_is_silent_is_not_shown_as_ready(client, alpha):
    now = datetime.now(UTC)
    TunnelSessionFactory(cluster=alpha, state="ready", seen_at=now - timedelta(seconds=30))
    assert "open" in page(client, alpha, "tab=tunnel").split('id="sessions"')[1]
    TunnelSession.objects.update(seen_at=now - timedelta(seconds=90))
    row = page(client, alpha, "tab=tunnel").split('id="sessions"')[1].split("</table>")[0]
    assert "not known" in row
    assert "last seen" in row
    assert "ready" not in row


def test_the_data_tab_is_the_ledger(client, alpha):
    measure(alpha)
    text = page(client, alpha, "tab=data&range=1h")
    assert "nothing was recorded at the source (lost)" in text
    assert "0 of 10" in text
    assert "<script>alert" not in text
    assert text.split('id="kept"')[0].count("<tr>") == 2
    everything = page(client, alpha, "tab=data&range=1h&show=all")
    assert everything.split('id="kept"')[0].count("<tr>") == 3


def test_pods_are_searched_sorted_and_paged(client, alpha):
    measure(alpha)
    assert "cart-1" in page(client, alpha, "tab=pods&q=CART&order=mem_ws")
    assert "No pods match" in page(client, alpha, "tab=pods&q=nothing")


@pytest.mark.parametrize(
    ("attrs", "words"),
    [({"status": "Running"}, "This pod is gone."), ({}, "This pod is not seen any more.")],
)
def test_a_pod_has_a_page_after_its_death_and_is_gone_only_if_a_list_says_so(
    client, alpha, attrs, words
):
    measure(alpha)
    key = SeriesKey("pod", "shop", "cart-1")
    last = MinuteRow(int(time.time()) // 60 * 60 - 60, key, cells("pod", cpu_mc=200))
    get_store().write(alpha.pk, "agent", Batch([last], [SeriesInfo(key, "node-1", attrs)]))
    end = int(time.time()) // 60 * 60
    later = MinuteRow(end + 900, SeriesKey("node", "", "node-1"), cells("node", cpu_mc=1))
    get_store().write(alpha.pk, "agent", Batch([later], [], [], end + 960, end + 960))
    text = client.get(f"/clusters/{alpha.pk}/pods/shop/cart-1/").content.decode()
    assert words in text
    assert "30 min after it was first seen" in text


def test_hostile_names_do_nothing_on_any_page_chart_table_or_csv(client, alpha):
    measure(alpha, node=EVIL, pod=(FORMULA, EVIL), pod_cpu=900)
    node = reverse("node", args=[alpha.pk, EVIL])
    pod = reverse("pod", args=[alpha.pk, FORMULA, EVIL])
    name = f"name={quote(EVIL)}"
    chart = f"/clusters/{alpha.pk}/chart/cpu"
    for url in (
        f"/clusters/{alpha.pk}/", f"/clusters/{alpha.pk}/?tab=nodes",
        f"/clusters/{alpha.pk}/?tab=pods", f"/clusters/{alpha.pk}/?tab=data", node, pod, "/pods/",
        f"/pods/?q={quote(EVIL[:20])}", f"{chart}.html?kind=node&{name}",
    ):  # fmt: skip
        response = client.get(url)
        assert response.status_code == 200, url
        assert "<script>alert" not in response.content.decode(), url
        assert "<img src=x" not in response.content.decode(), url
    figure = client.get(f"{chart}.json?kind=pod&ns={quote(FORMULA)}&{name}")
    assert figure["Content-Type"] == "application/json"
    assert b"<script>" not in figure.content
    assert orjson.loads(figure.content)["capacity"]["name"] == f"capacity of {EVIL}"[:200]
    sheet = client.get(f"{chart}.csv?kind=pod&ns={quote(FORMULA)}&{name}")
    assert sheet["Content-Disposition"].startswith("attachment")
    rows = list(csv.reader(io.StringIO(sheet.content.decode())))
    assert rows[1][1] == f"'{FORMULA}"
    for row in rows[1:]:
        for cell in row:
            assert cell[:1] not in ("=", "+", "@", "-")


def test_nonsense_in_the_address_is_the_default_and_never_an_error(client, alpha):
    measure(alpha)
    for query in ("range=9y", "start=x&end=y", "start=5&end=1", "page=zz", "tab=nope", "order=x",
                  "start=99999999999&end=99999999999", "tab=pods&page=-3", "q=%00"):  # fmt: skip
        assert client.get(f"/clusters/{alpha.pk}/?{query}").status_code == 200, query
    for path in ("chart/nope.json", "chart/cpu.xml", "chart/cpu.json?kind=ghost", "nodes/ghost/"):
        assert client.get(f"/clusters/{alpha.pk}/{path}").status_code == 404, path


def test_a_viewer_sees_the_cluster_but_no_way_to_act(client, viewer, cluster):
    client.force_login(viewer)
    text = page(client, cluster)
    assert "Settings" not in text
    assert "Add cluster" not in text
    assert "Settings" not in page(client, cluster, "tab=settings")


def test_pods_of_all_clusters_keep_to_what_the_user_may_see(
    client, viewer, cluster, foreign_cluster
):
    measure(cluster, pod=("shop", "mine"))
    measure(foreign_cluster, pod=("shop", "theirs"))
    client.force_login(viewer)
    for query in ("", "q=shop", "order=mem_ws", "order=name&within=7d"):
        text = client.get(f"/pods/?{query}").content.decode()
        assert "mine" in text, query
        assert "theirs" not in text, query


def test_the_pages_of_a_cluster_take_few_queries_whatever_is_in_it(client, alpha):
    measure(alpha)
    for query in ("", "tab=nodes", "tab=pods", "tab=data", "tab=tunnel"):
        with CaptureQueriesContext(connection) as asked:
            page(client, alpha, query)
        assert len(asked) <= 18, query


def test_what_is_absent_and_what_is_invisible_look_the_same(client, viewer, foreign_cluster):
    client.force_login(viewer)
    absent = client.get("/clusters/00000000-0000-4000-8000-000000000000/")
    invisible = client.get(f"/clusters/{foreign_cluster.pk}/")
    assert absent.status_code == invisible.status_code == 404
    assert absent.content == invisible.content


def test_the_largest_pods_over_a_range_are_listed_for_one_cluster_and_for_all(client, alpha):
    measure(alpha, pod=(FORMULA, EVIL))
    page = client.get(f"/clusters/{alpha.pk}/?tab=pods&over=1h&order=mem_ws").content.decode()
    assert EVIL not in page
    assert "1.0 MiB" in page
    assert "memory, mean" in page.lower()
    assert f"/api/v1/clusters/{alpha.pk}/top?kind=pod&amp;field=mem_ws&amp;by=mean" in page
    page = client.get("/pods/?over=6h&by=max&order=name").content.decode()
    assert "201 m" in page  # the highest sample
    assert "cpu, highest" in page.lower()
    csv_link = page.partition('href="/api/v1/top?')[2].partition('"')[0].replace("&amp;", "&")
    (line,) = csv.DictReader(io.StringIO(client.get(f"/api/v1/top?{csv_link}").content.decode()))
    assert (line["max"], line["namespace"]) == ("201", f"'{FORMULA}")
    assert "No pods found" in client.get("/pods/?over=1h&q=nothing").content.decode()
    assert "Nothing on this page" in client.get("/pods/?over=1h&page=3").content.decode()
