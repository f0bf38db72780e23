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

from clusters import services
from clusters.enrolment import services as enrolment
from clusters.models import AuditEvent, Cluster, ClusterKey, ClusterStatus
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Window
from metrics.stores import StoreError, get_store
from metrics.stores.writer import Batch
from tests.factories import ClusterFactory, TunnelSessionFactory, healthy, public_key
from tests.metrics.stores.sqlite.damage import damage

pytestmark = pytest.mark.django_db
EVIL = "<script>alert(1)</script>\"'<img src=x onerror=alert(1)>"
FORMULA = "=cmd|'/C calc'!A0"


@pytest.fixture
def alpha(client, operator):
    client.force_login(operator)
    return ClusterFactory(name="alpha", labels={"region": "eu"}, **healthy(datetime.now(UTC)))


def cells(kind: str, **values: int):
    made = {name: Cell(2, value * 2, value - 1, value + 1) for name, value in values.items()}
    return tuple(made.get(name) for name in FIELD_NAMES[kind])


def measure(
    cluster: Cluster,
    *,
    node: str = "node-1",
    pod=("shop", "cart-1"),
    minutes: int = 30,
    pod_cpu: int = 200,
):
    """Store half an hour that ends now, the ten minutes before it lost."""
    end = int(time.time()) // 60 * 60
    start = end - minutes * 60
    nodes, pods = SeriesKey("node", "", node), SeriesKey("pod", *pod)
    disk = SeriesKey("filesystem", node, "/")
    rows = []
    for ts in range(start, end, 60):
        rows += [
            MinuteRow(ts, nodes, cells("node", cpu_mc=900, cpu_cap_mc=4000, mem_ws=3 << 30,
                                       mem_cap=8 << 30, ready=1, pods=1, inodes_total=100,
                                       inodes_free=40)),
            MinuteRow(ts, disk, cells("filesystem", used=90, cap=100)),
            MinuteRow(ts, pods, cells("pod", cpu_mc=pod_cpu, mem_ws=1 << 20)),
        ]  # fmt: skip
    infos = [SeriesInfo(pods, node, {"workload": EVIL[:60]})]
    windows = [
        Window(start - 600, start, "lost", 0, 10, 2, "agent_stopped", EVIL, None),
        Window(start, end, "done", minutes, minutes, 1, "", "", None),
    ]
    get_store().write(cluster.pk, "agent", Batch(rows, infos, windows, end, end))


def page(client, cluster, query: str = "") -> str:
    response = client.get(f"/clusters/{cluster.pk}/?{query}")
    assert response.status_code == 200
    return response.content.decode()


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
                 "pods/"):  # fmt: skip
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


def test_a_pod_has_a_page_after_its_death(client, alpha):
    measure(alpha)
    end = int(time.time()) // 60 * 60
    later = MinuteRow(end + 900, SeriesKey("node", "", "node-1"), cells("node", cpu_mc=1))
    get_store().write(alpha.pk, "agent", Batch([later], [], [], end + 960, end + 960))
    text = client.get(f"/clusters/{alpha.pk}/pods/shop/cart-1/").content.decode()
    assert "This pod is gone" in text
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


def test_a_chart_has_columns_gaps_and_the_capacity_of_the_node(client, alpha):
    measure(alpha, pod_cpu=900)
    url = f"/clusters/{alpha.pk}/chart/cpu.json?kind=pod&ns=shop&name=cart-1&range=1h"
    figure = orjson.loads(client.get(url).content)
    series = figure["series"][0]
    present = [value for value in series["mean"] if value is not None]
    assert set(present) == {0.9}
    assert len(present) in (29, 30)
    assert set(series["min"]) == {0.899, None}
    assert set(series["max"]) == {0.901, None}
    assert len(series["mean"]) == len(series["min"]) == len(series["max"])
    assert figure["capacity"]["name"] == "capacity of node-1"
    assert figure["gaps"][0]["text"] == "No data: nothing was recorded at the source (lost)"
    assert figure["covered"] in ("29 of 39 minutes", "30 of 40 minutes")  # with the lost ten


def test_a_chart_says_what_is_damaged_in_the_store(client, alpha, settings):
    measure(alpha)
    get_store().maintain(2**32)
    damage(settings.METRICS_SQLITE_PATH)
    url = f"/clusters/{alpha.pk}/chart/cpu.%s?kind=pod&ns=shop&name=cart-1&range=1h"
    figure = orjson.loads(client.get(url % "json").content)
    words = "what was stored is damaged (lost)"
    texts = [gap["text"] for gap in figure.get("gaps", [])]
    assert f"No data: {words}" in texts or words in figure["why"]
    for form in ("csv", "html"):
        assert words in client.get(url % form).content.decode()


def test_inodes_used_are_the_total_less_the_free_ones(client, alpha):
    measure(alpha)
    url = f"/clusters/{alpha.pk}/chart/inodes.json?kind=node&name=node-1&range=1h"
    series = orjson.loads(client.get(url).content)["series"][0]
    assert {value for value in series["mean"] if value is not None} == {60.0}
    assert {value for value in series["max"] if value is not None} == {61.0}


def test_nonsense_in_the_address_is_the_default_and_never_an_error(client, alpha):
    measure(alpha)
    for query in ("range=9y", "start=x&end=y", "start=5&end=1", "page=zz", "tab=nope", "order=x",
                  "start=99999999999&end=99999999999", "tab=pods&page=-3", "q=%00"):  # fmt: skip
        assert client.get(f"/clusters/{alpha.pk}/?{query}").status_code == 200, query
    for path in ("chart/nope.json", "chart/cpu.xml", "chart/cpu.json?kind=ghost", "nodes/ghost/"):
        assert client.get(f"/clusters/{alpha.pk}/{path}").status_code == 404, path


def test_labels_are_saved_and_bad_ones_explained(client, alpha):
    url = f"/clusters/{alpha.pk}/labels/"
    assert client.post(url, {"labels": "tier=gold\nregion=us"}).status_code == 302
    alpha.refresh_from_db()
    assert alpha.labels == {"region": "us", "tier": "gold"}
    refused = client.post(url, {"labels": "no sign here"})
    assert refused.status_code == 422
    assert "is not of the form key=value" in refused.content.decode()
    assert "must be 1 to 63" in client.post(url, {"labels": "a b=c"}).content.decode()


def test_revoke_and_delete_require_the_name_and_are_audited(client, alpha):
    for what in ("revoke", "delete"):
        refused = client.post(f"/clusters/{alpha.pk}/{what}/", {"name": "beta"})
        assert refused.status_code == 422
        assert "The name does not match. Nothing was changed." in refused.content.decode()
    assert client.post(f"/clusters/{alpha.pk}/revoke/", {"name": "alpha"}).status_code == 302
    assert "revoked" in page(client, alpha, "tab=settings")
    assert client.post(f"/clusters/{alpha.pk}/delete/", {"name": "alpha"}).status_code == 302
    assert not Cluster.objects.exists()
    actions = list(AuditEvent.objects.values_list("action", flat=True))
    assert actions == ["cluster.revoke", "cluster.delete"]


def test_a_new_cluster_shows_its_token_once(client, operator):
    client.force_login(operator)
    answer = client.post(
        "/clusters/add/", {"name": "fresh", "customer": "Ada", "labels": "a=b, c=d"}
    )
    cluster = Cluster.objects.get(name="fresh")
    assert cluster.labels == {"a": "b", "c": "d"}
    assert cluster.customer.name == "Ada"
    text = answer.content.decode()
    assert text.count("ocj_") >= 3
    assert "SHA256:" in text
    join = f"/clusters/{cluster.pk}/join/"
    assert f'data-replace-url="{join}"' in text
    assert "ocj_" not in client.get(join).content.decode()
    assert "ocj_" in client.post(join).content.decode()


def test_a_refused_enrolment_is_shown_on_the_join_page(client, operator):
    from opscenter.core.errors import EnrolmentRefusedError

    client.force_login(operator)
    cluster = services.create_cluster(name="fresh", actor=operator)
    then = datetime.now(UTC) - timedelta(days=3)
    token = enrolment.issue_join_token(cluster, actor=operator, now=then)
    with pytest.raises(EnrolmentRefusedError):
        enrolment.enrol(
            token=token, public_key=public_key(), agent_version="1", kind="host",
            remote_address="192.0.2.1",
        )  # fmt: skip
    text = client.get(f"/clusters/{cluster.pk}/join/").content.decode()
    assert "The join token expired" in text
    assert "Waiting." in text


def test_a_pasted_key_is_registered_and_a_bad_one_explained(client, alpha):
    url = f"/clusters/{alpha.pk}/key/"
    bad = client.post(url, {"public_key": "ssh-rsa AAAA"})
    assert bad.status_code == 422
    assert "ssh-ed25519" in bad.content.decode()
    assert client.post(url, {"public_key": public_key("mine")}).status_code == 200
    assert ClusterKey.objects.get().cluster == alpha


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


def test_a_chart_is_compared_with_the_day_before(client, alpha):
    measure(alpha)
    day = 86_400
    now = int(time.time()) // 60 * 60
    key = SeriesKey("node", "", "node-1")
    rows = [MinuteRow(now - day - 60 * m, key, cells("node", cpu_mc=600)) for m in range(1, 31)]
    get_store().write(alpha.pk, "agent", Batch(rows))
    url = reverse("chart", args=[alpha.pk, "cpu", "json"])
    asked = f"{url}?kind=node&name=node-1&range=1h"
    assert "before" not in orjson.loads(client.get(asked).content)["series"][0]
    content = orjson.loads(client.get(f"{asked}&compare=day").content)
    assert content["change"] == "day before: +50.0 %"
    before = content["series"][0]["before"]
    drawn = {before["t0"] + i * before["step"]: v for i, v in enumerate(before["values"]) if v}
    assert set(drawn.values()) == {0.6}
    assert max(drawn) == now - 60  # moved by the day, onto the shown range
    content = orjson.loads(client.get(f"{asked}&compare=week").content)
    assert content["change"] == "week before: no data to compare with"
    for odd in ("year", "", "<b>"):
        assert orjson.loads(client.get(f"{asked}&compare={odd}").content)["change"] == ""
    table = client.get(f"{asked}&compare=day".replace(".json", ".html")).content.decode()
    assert "Day before" in table
    assert "600 m" in table
    lines = list(csv.DictReader(io.StringIO(
        client.get(f"{asked}&compare=day".replace(".json", ".csv")).content.decode())))  # fmt: skip
    assert [line["CPU mean (millicores)"] for line in lines if line["range"] == "day before"] == [
        "600"
    ] * 30


def test_the_table_of_a_comparison_finds_former_buckets_of_another_width(client, alpha):
    """Buckets of nine hours do not divide a week: the former ones begin at other moments."""
    key, week, nine_hours = SeriesKey("node", "", "node-1"), 7 * 86_400, 9 * 3600
    end = int(time.time()) // nine_hours * nine_hours - nine_hours
    rows = [MinuteRow(end - back - 60 * m, key, cells("node", cpu_mc=value))
            for back, value in ((0, 900), (week, 600)) for m in range(1, 541)]  # fmt: skip
    get_store().write(alpha.pk, "agent", Batch(rows, head=end))
    span = f"start={end - 90 * 86_400}&end={end}"
    url = reverse("chart", args=[alpha.pk, "cpu", "html"])
    table = client.get(f"{url}?kind=node&name=node-1&{span}&compare=week").content.decode()
    (row,) = [part for part in table.split("<tr")[1:] if "900 m" in part]
    assert "600 m" in row


def test_large_numbers_are_whole_in_a_sheet(client, alpha):
    key, end = SeriesKey("node", "", "node-1"), int(time.time()) // 60 * 60
    used = (64 << 30) + 1
    get_store().write(
        alpha.pk, "agent", Batch([MinuteRow(end - 60, key, cells("node", mem_ws=used))])
    )
    url = reverse("chart", args=[alpha.pk, "memory", "csv"])
    sheet = client.get(f"{url}?kind=node&name=node-1&range=1h").content.decode()
    (line,) = csv.DictReader(io.StringIO(sheet))
    assert [value for name, value in line.items() if name.endswith("(bytes)")] == [
        str(used), str(used - 1), str(used + 1)
    ]  # fmt: skip


def test_the_comparison_stays_in_every_link_of_the_page(client, alpha):
    measure(alpha)
    page = client.get(f"/clusters/{alpha.pk}/?range=1h&compare=week").content.decode()
    assert "vs week before" in page
    assert "?tab=overview&amp;range=24h&amp;compare=week" in page
    assert "tab=nodes&amp;range=1h&amp;compare=week" in page
    assert f"/clusters/{alpha.pk}/chart/cpu.json?kind=cluster&amp;range=1h&amp;compare=week" in page


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
