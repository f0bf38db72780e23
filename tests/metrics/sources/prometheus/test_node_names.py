"""One node under all its names, and how much is asked for at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.series.rows import SeriesInfo, SeriesKey
from metrics.sources.prometheus.batches import MAX_SERIES, Plan
from metrics.sources.prometheus.node_names import Facts, host_of, pod_of
from metrics.sources.prometheus.queries import QUERIES, joined

Series = tuple[dict[str, str], float]


def learnt(*series: dict[str, str]) -> Facts:
    facts = Facts()
    facts.learn([(labels, float(labels.pop("value", "1"))) for labels in series], "q")
    return facts


def ksm(node: str, **more: str) -> dict[str, str]:
    return {"q": "node", "node": node, **more}


@pytest.mark.parametrize(
    ("labels", "node"),
    [
        ({"instance": "10.0.0.1:10250"}, "node-a"),  # a kubelet, by kube_node_info's address
        ({"instance": "10.0.0.1:9100"}, "node-a"),  # its node-exporter
        ({"instance": "node-a:9100"}, "node-a"),
        ({"instance": "node-a"}, "node-a"),
        ({"instance": "NODE-A.example.com:9100"}, "node-a"),  # by the short name
        ({"instance": "10.9.9.9:9100", "node": "node-a"}, "node-a"),
        ({"instance": "10.9.9.9:9100", "kubernetes_io_hostname": "node-b"}, "node-b"),
        ({"instance": "10.1.0.7:9100"}, "node-b"),  # by the pod that the exporter runs in
        ({"instance": "10.1.0.8:9100"}, "node-a"),  # by the host name in its uname
        ({"instance": "10.1.0.9:2379", "pod": "etcd-node-b"}, "node-b"),
        ({"instance": "[fd00::1]:9100"}, "node-b"),
        ({"instance": "192.168.7.7:9100"}, None),
        ({"instance": "localhost:9090", "node": "somewhere"}, None),
        ({}, None),
    ],
)
def test_whatever_a_node_is_called_it_is_one_node(labels: dict[str, str], node: str | None):
    facts = learnt(
        ksm("node-a", internal_ip="10.0.0.1"),
        ksm("node-b", internal_ip="fd00::1"),
        {"q": "pod", "value": "2", "namespace": "mon", "pod": "exporter-x", "node": "node-b"},
        {"q": "uname", "instance": "10.1.0.7:9100", "namespace": "mon", "pod": "exporter-x"},
        {"q": "uname", "instance": "10.1.0.8:9100", "nodename": "node-a.cluster.local"},
    )
    assert facts.kubernetes
    assert facts.node_of(labels) == node


def test_a_machine_that_is_no_node_of_the_cluster_is_left_out_and_named():
    facts = learnt(ksm("node-a", internal_ip="10.0.0.1"))
    assert facts.node_of({"instance": "backup:9100"}) is None
    assert facts.unknown_nodes == {"backup:9100"}


def test_two_nodes_with_one_short_name_are_not_mixed_up():
    facts = learnt(ksm("web.eu"), ksm("web.us"))
    assert facts.node_of({"instance": "web:9100"}) is None
    assert facts.node_of({"instance": "web.eu:9100"}) == "web.eu"


def test_without_kubernetes_a_node_is_its_instance():
    facts = learnt({"q": "uname", "instance": "db1:9100", "nodename": "db1.example.com"})
    assert not facts.kubernetes
    assert facts.node_of({"instance": "db1:9100"}) == "db1:9100"
    assert facts.node_attrs["db1:9100"]["hostname"] == "db1.example.com"
    # etcd on the same machine, at another port.
    assert facts.only_machine({"instance": "db1:2379"}) == "db1:9100"
    assert facts.only_machine({"instance": "elsewhere:2379"}) is None


def test_nodes_are_those_of_the_pods_where_kube_node_info_is_missing():
    pod = {"q": "pod", "value": "2", "namespace": "a", "pod": "b", "node": "n1"}
    facts = learnt({**pod, "host_ip": "10.0.0.1"})
    assert facts.node_of({"instance": "10.0.0.1:9100"}) == "n1"


def test_nodes_are_those_of_the_kubelets_where_kube_state_metrics_is_missing():
    facts = learnt({"q": "kubelet", "instance": "10.0.0.1:10250", "node": "n1"})
    assert facts.kubernetes
    assert facts.node_of({"instance": "10.0.0.1:9100"}) == "n1"


def test_a_pod_that_moved_is_where_it_is_now():
    was = {"q": "pod", "value": "1", "namespace": "a", "pod": "db-0", "node": "n1"}
    now = {"q": "pod", "value": "2", "namespace": "a", "pod": "db-0", "node": "n2"}
    for order in ((was, now), (now, was)):
        assert learnt(*map(dict, order)).pods["a", "db-0"].node == "n2"


def test_an_address_is_that_of_the_node_that_has_it_now():
    gone, now = ksm("old", internal_ip="10.0.0.1", value="1"), ksm("new", internal_ip="10.0.0.1")
    now["value"] = "2"
    for order in ((gone, now), (now, gone)):
        assert learnt(*map(dict, order)).node_of({"instance": "10.0.0.1:9100"}) == "new"


def test_labels_that_a_scrape_renamed_count_more_than_those_of_its_target():
    renamed = {"namespace": "monitoring", "pod": "ksm-1", "exported_namespace": "a"}
    assert pod_of({**renamed, "exported_pod": "web"}) == ("a", "web")
    assert pod_of({"namespace": "a", "pod": "web"}) == ("a", "web")
    assert pod_of({"namespace": "a"}) is None
    assert learnt(ksm("ksms-own-node", exported_node="n1")).node_of({"instance": "n1"}) == "n1"


@pytest.mark.parametrize(
    ("instance", "host"),
    [
        ("a:9100", "a"), ("a", "a"), ("10.0.0.1:1", "10.0.0.1"), ("[fd00::1]:9100", "fd00::1"),
        ("fd00::1", "fd00::1"), ("", ""), ("http://a:9100", "http://a:9100"),
    ],
)  # fmt: skip
def test_the_host_of_an_instance(instance: str, host: str):
    assert host_of(instance) == host


def _infos(pods: int) -> list[SeriesInfo]:
    return [SeriesInfo(SeriesKey("pod", "ns", f"p{number}")) for number in range(pods)]


@given(st.integers(0, MAX_SERIES), st.integers(10_000, 8_000_000), st.integers(0, 12))
def test_a_plan_asks_for_everything_once_and_shrinks_to_one_field_of_one_minute(
    pods: int, max_bytes: int, steps: int
):
    plan = Plan(max_bytes, pods=pods)
    for _ in range(steps):
        if not plan.shrink():
            break
    assert 1 <= plan.points <= 360
    groups = plan.requests(plan.points)
    assert sorted(number for group in groups for number in group) == list(range(len(QUERIES)))
    # VictoriaMetrics takes no longer ones.
    assert all(len(joined(group)) <= 16_384 for group in groups)
    while plan.shrink():
        pass
    assert plan.points == 1
    assert len(plan.requests(1)) == len(QUERIES)


def test_a_small_cluster_is_read_six_hours_at_a_time_and_a_large_one_less():
    small, large = Plan(8_000_000, pods=30), Plan(8_000_000, pods=300)
    assert small.points == 360
    assert len(small.requests(360)) <= 4
    assert large.points > 60
    huge = Plan(8_000_000, pods=3000)
    before = huge.points
    huge.learn(_infos(15_000))
    assert huge.points < before
