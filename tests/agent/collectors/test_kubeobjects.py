import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.kubeobjects import parse_node, parse_pod
from tests.agent.kubernetes import node, pod, real_answer, real_pods, rfc3339

OWNERS = {
    "evicted": "",
    "fails-hj2w8": "Job/fails",
    "minutely-29932673-k7gsm": "CronJob/minutely",
    "crash-5c66d4fcfd-q9k9h": "Deployment/crash",
    "stat-node-a": "Static/stat",
    "db-0": "StatefulSet/db",
}


def owned(kind, name, *, created=None):
    item = pod("shop", f"{name}-x2x9k", "n1")
    item["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "controller": True}]
    if created is not None:
        item["metadata"]["creationTimestamp"] = rfc3339(created)
    return parse_pod(item).attrs["owner"]


def condition(kind, status="True", **more):
    item = node("n1")
    item["status"]["conditions"] = [{"type": kind, "status": status, **more}]
    return parse_node(item)


@pytest.mark.parametrize("name", OWNERS)
def test_a_real_pod_belongs_to_its_workload(name):
    [item] = [one for one in real_pods() if one["metadata"]["name"] == name]
    assert parse_pod(item).attrs["owner"] == OWNERS[name]


def test_a_job_is_a_run_of_a_cronjob_only_if_its_number_is_the_time_of_the_run():
    run = 29_932_675
    assert owned("Job", f"minutely-{run}", created=run * 60 + 5) == "CronJob/minutely"
    assert owned("Job", f"minutely-{run * 60}", created=run * 60 + 5) == "CronJob/minutely"
    assert owned("Job", f"minutely-{run}") == "CronJob/minutely"
    assert owned("Job", "import-20261129", created=run * 60) == "Job/import-20261129"
    assert owned("Job", "import-20261129") == "Job/import-20261129"
    assert owned("Job", f"a-{run}-b", created=run * 60) == f"Job/a-{run}-b"


def test_static_pods_of_one_name_are_one_workload_on_all_nodes():
    items = [pod("kube-system", f"etcd-n{number}", f"n{number}") for number in (1, 2)]
    for number, item in enumerate(items, start=1):
        item["metadata"]["ownerReferences"] = [{"kind": "Node", "name": f"n{number}"}]
    assert {parse_pod(item).attrs["owner"] for item in items} == {"Static/etcd"}


def test_a_real_node_is_ready_and_under_no_pressure():
    [item] = real_answer("nodes_list")["items"]
    found = parse_node(item)
    assert (found.ready, found.cpu_cap_mc, found.mem_cap) == (1, 2000, 24_684_084 * 1024)
    assert not any(found.attrs[name] for name in ("roles", "conditions", "cordoned", "reason"))


@pytest.mark.parametrize(
    ("status", "ready"), [("True", 1), ("False", 0), ("Unknown", 0), ("", None), (None, None)]
)
def test_a_node_is_ready_or_not_or_does_not_say(status, ready):
    assert condition("Ready", status).ready == ready


def test_a_node_without_the_condition_ready_does_not_say():
    assert condition("DiskPressure").ready is None


def test_a_node_that_is_not_ready_says_why():
    found = condition("Ready", "Unknown", reason="NodeStatusUnknown", message="Kubelet stopped.")
    assert (found.attrs["reason"], found.attrs["message"]) == (
        "NodeStatusUnknown",
        "Kubelet stopped.",
    )
    assert condition("Ready", reason="KubeletReady").attrs["reason"] == ""


@pytest.mark.parametrize(
    "name",
    [
        "MemoryPressure", "PIDPressure", "KernelDeadlock", "ReadonlyFilesystem",
        "FrequentKubeletRestart", "NTPProblem", "KubeProxyUnhealthy", "FrequentMyDaemonRestart",
    ],
)  # fmt: skip
def test_a_condition_that_is_bad_news_is_told_if_it_is_true(name):
    assert condition(name).attrs["conditions"] == name
    assert condition(name, "False").attrs["conditions"] == ""
    assert condition(name, "Unknown").attrs["conditions"] == ""


@pytest.mark.parametrize(
    ("status", "told"), [("False", "NetworkingNotReady"), ("True", ""), ("Unknown", "")]
)
def test_a_part_of_a_node_that_is_not_ready_is_told(status, told):
    assert condition("NetworkingReady", status).attrs["conditions"] == told


@pytest.mark.parametrize("name", ["EtcdIsVoter", "Ready", "NetworkReady", "SomethingNew"])
def test_a_condition_that_may_be_good_news_is_no_pressure(name):
    assert condition(name).attrs["conditions"] == ""


def test_roles_are_those_that_kubectl_prints():
    item = node("n1", role="control-plane")
    item["metadata"]["labels"] |= {
        "node-role.kubernetes.io/etcd": "true",
        "kubernetes.io/role": "worker",
        "node-role.kubernetes.io/": "",
    }
    assert parse_node(item).attrs["roles"] == "control-plane,etcd,worker"


def test_a_cordoned_node_says_so():
    item = node("n1")
    assert parse_node(item).attrs["cordoned"] == ""
    item["spec"]["unschedulable"] = True
    assert parse_node(item).attrs["cordoned"] == "1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["metadata", "name", "namespace", "status", "spec", "labels", "conditions", "type",
             "containers", "containerStatuses", "lastState", "terminated", "ownerReferences"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["metadata", "status", "spec"]), JSON), st.text(min_size=1))
def test_no_object_of_any_shape_is_an_error(item, name):
    metadata = item.get("metadata")
    if isinstance(metadata, dict):
        item["metadata"] = {**metadata, "name": name, "namespace": "ns"}
    parse_node(item)
    parse_pod(item)


def test_labels_and_counts_of_absurd_types_are_no_error():
    assert parse_node({"metadata": {"name": "n", "labels": 5}}).attrs["roles"] == ""
    huge = [{"restartCount": 1e308}] * 2
    item = {"metadata": {"name": "p", "namespace": "n"}, "status": {"containerStatuses": huge}}
    assert parse_pod(item).restarts == float("inf")
