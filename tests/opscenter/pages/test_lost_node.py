"""The page of a node that is lost: since when, its last values, what ran there, where that is."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from clusters.models import Cluster, ClusterNode
from metrics import query
from metrics.series.rows import MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Window
from metrics.stores import get_store
from metrics.stores.writer import Batch
from opscenter.pages import lost_node as module
from opscenter.pages.lost_node import LostNode, lost_node
from tests.factories import ClusterFactory, healthy
from tests.opscenter.pages.measured import cells

pytestmark = pytest.mark.django_db

END = int(time.time()) // 60 * 60
LOST = END - 1200
START = END - 3600


@pytest.fixture
def alpha(client, operator):
    client.force_login(operator)
    facts = {"nodes_ready": 1, "nodes_total": 2, "nodes_not_ready": ["node-1"], "pods": 3}
    return ClusterFactory(name="alpha", **healthy(datetime.now(UTC), **facts))


def node_row(ts: int, name: str, **values: int) -> MinuteRow:
    return MinuteRow(ts, SeriesKey("node", "", name), cells("node", **values))


def pod_row(ts: int, name: str) -> MinuteRow:
    return MinuteRow(ts, SeriesKey("pod", "shop", name), cells("pod", cpu_mc=200, mem_ws=1 << 20))


def write(cluster: Cluster, rows, infos=()) -> None:
    window = Window(START, END, "done", 60, 60, 1, "", "", None)
    get_store().write(cluster.pk, "agent", Batch(rows, list(infos), [window], END, END))


def measure(
    cluster: Cluster, *, is_listed: bool = True, counted: int = 2, lists_pods: bool = True
) -> None:
    """Store an hour in which node-1 is lost after forty minutes.

    cart-a and db-0 ran on it; cart-b of the same workload starts on node-2 a minute later. cart-z
    ran there all the time.
    """
    whole = {"cpu_cap_mc": 4000, "mem_ws": 3 << 30, "mem_cap": 8 << 30}
    rows = []
    for ts in range(START, END, 60):
        rows.append(node_row(ts, "node-2", cpu_mc=700, ready=1, pods=1, **whole))
        rows.append(pod_row(ts, "cart-z"))
        if ts < LOST:
            rows.append(node_row(ts, "node-1", cpu_mc=900, ready=1, pods=counted, **whole))
            rows += [pod_row(ts, "cart-a"), pod_row(ts, "db-0")]
        else:
            if is_listed:
                rows.append(node_row(ts, "node-1", ready=0))
            if ts > LOST:
                rows.append(pod_row(ts, "cart-b"))

    def info(name: str, node: str, workload: str) -> SeriesInfo:
        listed = {"status": "Running"} if lists_pods else {}
        return SeriesInfo(SeriesKey("pod", "shop", name), node, {"workload": workload, **listed})

    write(cluster, rows, [
        info("cart-a", "node-1", "Deployment/cart"), info("cart-b", "node-2", "Deployment/cart"),
        info("cart-z", "node-2", "Deployment/cart"), info("db-0", "node-1", "StatefulSet/db"),
    ])  # fmt: skip


def found(cluster: Cluster) -> LostNode:
    detail = query.node(cluster, "node-1")
    assert detail is not None
    return lost_node(cluster, detail.now, END)


def page(client, cluster: Cluster, asked: str = "") -> str:
    answer = client.get(f"/clusters/{cluster.pk}/nodes/node-1/?{asked}")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_since_is_the_first_minute_without_the_node_ready_not_when_it_was_judged(alpha):
    measure(alpha)
    node = found(alpha)
    assert (node.since, node.at_least) == (LOST, False)


def test_the_last_values_are_those_of_the_last_minute_that_has_them(alpha):
    measure(alpha)
    node = found(alpha)
    assert node.values_at == LOST
    assert node.values["cpu_mc"] == 900
    assert node.values["pods"] == 2


def test_a_node_without_a_good_minute_is_lost_since_at_least_the_first_that_is_stored(alpha):
    write(alpha, [node_row(ts, "node-1", ready=0) for ts in range(START, END, 60)])
    node = found(alpha)
    assert (node.since, node.at_least, node.values_at) == (START, True, None)


def test_a_node_that_is_listed_no_more_is_lost_since_its_last_minute(alpha):
    measure(alpha, is_listed=False)
    node = found(alpha)
    assert (node.since, node.at_least) == (LOST, False)
    assert node.values["cpu_mc"] == 900


def test_each_pod_is_gone_or_replaced_by_one_that_was_not_there_before(alpha):
    measure(alpha)
    node = found(alpha)
    assert node.pods is not None
    assert [(one.pod.name, one.now and one.now.name) for one in node.pods] == [
        ("db-0", None), ("cart-a", "cart-b"),
    ]  # fmt: skip
    assert (node.gone, node.elsewhere, node.listed, node.unnamed) == (1, 1, 0, 0)


def test_a_pod_that_replaces_one_that_ended_elsewhere_replaces_none_of_the_node(alpha):
    measure(alpha)
    key = SeriesKey("pod", "shop", "cart-y")
    rows = [pod_row(ts, "cart-y") for ts in range(START, LOST + 120, 60)]
    infos = [SeriesInfo(key, "node-2", {"workload": "Deployment/cart", "status": "Running"})]
    get_store().write(alpha.pk, "agent", Batch(rows, infos))
    node = found(alpha)
    assert (node.gone, node.elsewhere) == (2, 0)


def test_a_pod_that_ended_before_the_node_was_lost_did_not_run_there_then(alpha):
    measure(alpha)
    key = SeriesKey("pod", "shop", "job-1")
    rows = [pod_row(ts, "job-1") for ts in range(START, LOST - 300, 60)]
    infos = [SeriesInfo(key, "node-1", {"workload": "Job/job"})]
    get_store().write(alpha.pk, "agent", Batch(rows, infos))
    node = found(alpha)
    assert node.pods is not None
    assert "job-1" not in {one.pod.name for one in node.pods}


def test_pods_that_only_their_node_measured_are_not_called_gone_while_nobody_reaches_it(
    client, alpha
):
    measure(alpha, lists_pods=False)
    node = found(alpha)
    assert (node.gone, node.unknown, node.elsewhere) == (0, 1, 1)
    text = page(client, alpha, "range=1h")
    assert "1 runs elsewhere now, of 1 it is not known whether it still runs here." in text
    assert "gone" not in text.partition('id="lost-node"')[2].partition("</div>")[0]


def test_of_a_node_that_was_removed_nothing_runs_any_more(client, alpha):
    measure(alpha, lists_pods=False, is_listed=False)
    seen = datetime.fromtimestamp(LOST, UTC)
    row = ClusterNode.objects.create(
        cluster=alpha, name="node-1", first_seen_at=seen, last_seen_at=seen
    )
    assert "Not seen" in page(client, alpha)
    row.removed_at = seen
    row.save()
    text = page(client, alpha)
    assert "1 runs elsewhere now, 1 is gone." in text
    assert "Removed since" in " ".join(text.split())


def test_a_dead_node_without_any_value_has_one_sentence_instead_of_empty_charts(client, alpha):
    write(alpha, [node_row(ts, "node-1", ready=0) for ts in range(START, END, 60)])
    text = page(client, alpha)
    assert "There are no charts: no values of this node are stored" in text
    assert "<figure" not in text


def test_times_of_a_lost_node_are_by_our_clock(client, alpha):
    measure(alpha)
    alpha.current.clock_skew_ms = 3_600_000
    alpha.current.save()
    text = page(client, alpha)
    since = datetime.fromtimestamp(LOST - 3600, UTC)
    assert f'Not ready since <time datetime="{since:%Y-%m-%dT%H:%M:%SZ}"' in text


def test_what_the_node_counted_beyond_those_that_can_be_named_is_said(client, alpha):
    measure(alpha, counted=5)
    assert found(alpha).unnamed == 3
    assert "It counted 3 more, which cannot be named" in page(client, alpha)


def test_pods_of_a_node_that_was_lost_long_ago_are_not_looked_for(alpha, monkeypatch):
    monkeypatch.setattr(module, "PODS_DAYS", 0)
    measure(alpha)
    assert found(alpha).pods is None


def test_the_page_says_it_all_and_nothing_that_is_untrue(client, alpha):
    measure(alpha)
    text = page(client, alpha, "range=1h")
    assert "<b> Not ready since <time" in text
    assert "Last values of <time" in text
    assert "2 pods ran here; 1 runs elsewhere now, 1 is gone." in text
    assert ">cart-b</a> on <a" in text
    assert "does not report pods" not in text
    assert "900 m" in text
    assert "Not reported while the node is not ready." in text


def test_in_a_range_after_its_last_values_the_charts_give_way_to_a_link(client, alpha):
    measure(alpha)
    start = LOST + 300
    text = page(client, alpha, f"start={start}&end={end}" if (end := start + 600) else "")
    assert "<figure" not in text
    assert f'href="?start={LOST - 600}&amp;end={LOST}">Show the charts up to its last' in text
    assert "<figure" in page(client, alpha, "range=1h")


def test_a_list_that_is_cut_says_so(client, alpha, monkeypatch):
    monkeypatch.setattr(module, "SHOWN_PODS", 1)
    measure(alpha)
    text = page(client, alpha)
    assert "1 more are not shown" in text
    assert text.count("<tr data-row>") == 1


def test_a_node_that_is_ready_has_no_such_box(client, alpha):
    measure(alpha)
    answer = client.get(f"/clusters/{alpha.pk}/nodes/node-2/").content.decode()
    assert 'id="lost-node"' not in answer
    assert "2 pods on this" in " ".join(answer.split())
