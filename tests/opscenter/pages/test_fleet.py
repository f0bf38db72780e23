"""The fleet page: the worst first, counts that agree, filters in the URL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusters.conditions import Condition
from opscenter.core.heartbeats import write_heartbeat
from opscenter.pages import fleet as fleet_page
from opscenter.pages.fleet_columns import FLEET_COLUMNS, Column
from tests.factories import ClusterFactory, CustomerFactory, healthy

pytestmark = pytest.mark.django_db


def fresh(**columns):
    return healthy(datetime.now(UTC), **columns)


def silent(minutes: int = 30):
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    return healthy(at, tunnel_up=False, tunnel_reason="keepalive time-out")


@pytest.fixture
def fleet(client, operator):
    client.force_login(operator)

    def get(query: str = "", **headers):
        return client.get(f"/?{query}" if query else "/", headers=headers)

    return get


def order_of(text: str, *names: str) -> list[int]:
    return [text.index(f">{name}<") for name in names]


def test_the_worst_cluster_comes_first_and_the_silent_one_is_unknown(fleet, redis_server):
    write_heartbeat("hub")  # else the fault is ours, and the tunnel is not blamed
    ClusterFactory(name="well", **fresh())
    ClusterFactory(name="quiet", **silent())
    ClusterFactory(name="broken", **fresh(nodes_ready=0, nodes_not_ready=["n1"]))
    text = fleet().content.decode()
    assert order_of(text, "broken", "quiet") == sorted(order_of(text, "broken", "quiet"))
    assert "Unknown since" in text
    assert "(was ok)" in text
    assert "keepalive time-out" in text
    assert "<b>2</b> of 3 reporting" in text
    assert "Needs attention (2)" in text


def test_all_clear_is_not_said_of_a_fleet_in_which_nobody_reported_yet(fleet):
    ClusterFactory(name="new", status="pending", enrolled_at=None)
    text = " ".join(fleet().content.decode().split())
    assert "All clear" not in text


def test_the_state_chip_filters_and_keeps_the_counts_of_all_states(fleet):
    ClusterFactory(name="well", **fresh())
    ClusterFactory(name="quiet", **silent())
    text = " ".join(fleet("state=unknown").content.decode().split())
    assert ">quiet<" in text
    assert ">well<" not in text
    assert "1 of 2 clusters" in text
    assert 'id="chip-unknown" class="chip" href="/" aria-current="true"' in text


def test_a_number_gets_a_column_by_being_declared_as_one(fleet, client, monkeypatch):
    more = (Column("Pods", "pods"), Column("Memory used", "mem_ws"),
            Column("Fullest disk", "fs_worst_ratio", "share"))  # fmt: skip
    monkeypatch.setattr(fleet_page, "FLEET_COLUMNS", (*FLEET_COLUMNS, *more))
    cluster = ClusterFactory(name="busy", **fresh(pods=1234, fs_worst_ratio=0.5))
    page = "".join(fleet("view=table").content.decode().split())
    assert '<thclass="num">Pods</th><thclass="num">Memoryused</th><th>Fullestdisk</th>' in page
    swapped = client.get(f"/fleet/updates/?ids={cluster.pk}&view=table").content.decode()
    for text in (page, "".join(swapped.split())):
        assert '<tdclass="num"data-label="Pods">1,234</td>' in text
        assert '<tdclass="num"data-label="Memoryused">8.0GiB</td>' in text
        assert '<spanclass="mutedsmall">50%</span>' in text


def test_search_customer_and_label_narrow_the_list(fleet):
    ClusterFactory(
        name="one", customer=CustomerFactory(name="Ada"), labels={"region": "eu"}, **fresh()
    )
    ClusterFactory(
        name="two", customer=CustomerFactory(name="Bob"), labels={"region": "us"}, **fresh()
    )
    for query in ("q=ada", "customer=Ada", "label=region%3Deu", "q=on+eu"):
        text = fleet(query).content.decode()
        assert ">one<" in text, query
        assert ">two<" not in text, query
    assert "No matching clusters" in fleet("q=zzz").content.decode()


def test_groups_carry_their_own_counts(fleet):
    ada = CustomerFactory(name="Ada")
    ClusterFactory(name="one", customer=ada, **fresh())
    ClusterFactory(name="two", customer=ada, **silent())
    ClusterFactory(name="three", customer=None, **fresh())
    text = " ".join(fleet("group=customer&view=table").content.decode().split())
    assert "Ada <span" in text
    assert "1 of 2 reporting" in text
    assert "No customer" in text


def test_a_simulated_cluster_says_so_in_every_view(fleet):
    ClusterFactory(name="made-up", simulated=True, **silent())
    for view in ("grid", "table"):
        text = fleet(f"view={view}").content.decode()
        assert text.count(">simulated</span>") >= 2


def test_the_empty_fleet_shows_the_first_step(fleet, client, stranger):
    assert "Add the first one" in fleet().content.decode()
    client.force_login(stranger)
    assert "does not have access to any cluster" in client.get("/").content.decode()


def test_a_viewer_sees_and_counts_only_what_is_granted(client, viewer, cluster, foreign_cluster):
    client.force_login(viewer)
    text = client.get("/").content.decode()
    assert "north-1" in text
    assert "south-1" not in text
    assert "of 1 reporting" in text
    answer = client.get(f"/fleet/updates/?ids={cluster.pk},{foreign_cluster.pk}")
    assert "south-1" not in answer.content.decode()


def test_updates_return_only_the_changed_rows_and_their_places(fleet, client):
    one = ClusterFactory(name="one", **silent())
    two = ClusterFactory(name="two", **fresh())
    fleet()
    answer = client.get(f"/fleet/updates/?ids={one.pk},nonsense&q=one&view=grid")
    text = answer.content.decode()
    assert f'id="need-{one.pk}"' in text
    assert f'id="tile-{one.pk}"' in text
    assert str(two.pk) not in text
    assert f'"{one.pk}":"unknown"' in answer["HX-Trigger"]
    gone = client.get(f"/fleet/updates/?ids={two.pk}&q=one")
    assert f'"{two.pk}":""' in gone["HX-Trigger"]


def test_names_and_labels_are_escaped(fleet):
    ClusterFactory(
        name="x",
        labels={"k": '"><script>alert(1)</script>'},
        customer=CustomerFactory(name="<img src=x onerror=alert(1)>"),
        **fresh(nodes_ready=0, nodes_not_ready=["<b>node</b>"], fs_worst_name="'\"><svg onload=1>"),
    )
    for query in ("", "view=table", "group=label:k", "group=customer", "q=<script>"):
        text = fleet(query).content.decode()
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<b>node" not in text
        assert "<svg onload" not in text


def test_pages_are_never_cached_and_send_strangers_to_the_sign_in(client, fleet):
    assert "no-store" in fleet()["Cache-Control"]
    client.logout()
    answer = client.get("/?q=a")
    assert answer.status_code == 302
    assert answer["Location"] == "/accounts/login/?next=%2F%3Fq%3Da"
    script = client.get(
        "/fleet/updates/", headers={"HX-Request": "true", "HX-Current-URL": "http://x/?q=a"}
    )
    assert script.status_code == 401
    assert script["HX-Redirect"] == "/accounts/login/?next=%2F%3Fq%3Da"


@pytest.mark.parametrize("view", ["grid", "table"])
def test_the_number_of_queries_is_the_same_for_100_and_2000_clusters(
    fleet, django_assert_max_num_queries, view
):
    customer = CustomerFactory()
    ClusterFactory.create_batch(100, customer=customer, **fresh())
    fleet()
    with CaptureQueriesContext(
        connection,
    ) as few:
        fleet(f"view={view}")
    ClusterFactory.create_batch(1900, customer=customer, **fresh())
    with CaptureQueriesContext(connection) as many:
        answer = fleet(f"view={view}")
    assert len(many) == len(few) <= 8
    assert "of 2,000 reporting" in answer.content.decode()


def test_a_long_list_comes_in_pages(fleet):
    ClusterFactory.create_batch(130, **fresh())
    first = fleet("view=table").content.decode()
    assert first.count('<tr id="line-') == 100
    assert "page=2&amp;part=list" in first
    rest = fleet("view=table&page=2&part=list", **{"HX-Request": "true"}).content.decode()
    assert rest.count('<tr id="line-') == 30
    assert "<html" not in rest


def test_what_may_have_begun_earlier_is_so_since_at_least_then_on_every_page(fleet, client):
    at = datetime.now(UTC) - timedelta(hours=2)
    one = Condition(what="not_ready", node="n3", since=at, at_least=True).as_json()
    facts = fresh(nodes_ready=2, nodes_not_ready=["n3"], conditions=[one])
    cluster = ClusterFactory(name="edge", **facts)
    for path in ("/?view=table", f"/clusters/{cluster.pk}/"):
        text = client.get(path).content.decode()
        assert text.count("since at least <time") == 2, path
        assert "since <time" not in text.partition('id="facts"')[0], path


def test_the_first_command_has_the_address_of_this_centre(fleet, settings):
    settings.PUBLIC_URL = "https://ops.example.com"
    assert "--url https://ops.example.com --hub-key" in fleet().content.decode()


def test_a_group_counts_as_the_page_does_who_should_report(fleet):
    ClusterFactory(name="well", **fresh())
    ClusterFactory(name="new", status="pending", enrolled_at=None)
    text = " ".join(fleet("group=customer").content.decode().split())
    assert "<b>1</b> of 1 reporting" in text
    assert "2 reporting" not in text
    assert "0 of" not in text.partition('id="all-title"')[2]
