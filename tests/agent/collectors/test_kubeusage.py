"""The numbers of nodes and pods from what kubelets and container runtimes really answer."""

import json
import re
from pathlib import Path

import pytest

from agent.catalog import FIELDS
from agent.collectors.kubeusage import Usage
from tests.agent.kubernetes import GIB, real_answer, rfc3339, summary

AT = 1_800_000_000.0
FIELD = Path(__file__).parent / "field" / "kubernetes"
CAPACITY = 2000.0


def kubelet_says(kubernetes, given, step):
    kubernetes.nodes, kubernetes.pods = given["nodes"], given["pods"]
    kubernetes.summaries = step["summaries"]


@pytest.mark.parametrize("path", sorted(FIELD.glob("*.json")), ids=lambda path: path.stem)
async def test_an_input_from_the_field_gives_its_right_values(kubernetes, collector, path):
    case = json.loads(path.read_text())
    for step in case["input"]["steps"]:
        kubelet_says(kubernetes, case["input"], step)
        collected = await collector.collect(step["now"])
    for check in case["checks"]:
        [found] = [
            one
            for one in collected.samples
            if (one.kind, one.ns, one.name) == (check["kind"], check.get("ns", ""), check["name"])
        ]
        if "attr" in check:
            text = found.attrs.get(check["attr"], "")
            assert re.search(check.get("matches", ""), text), case["expected"]
            assert not re.search(check.get("not_matches", "$^"), text), case["expected"]
            continue
        value = found.values[FIELDS[found.kind].index(check["field"])]
        low, high = check.get("between") or [check["equals"]] * 2
        known = value is not None and low <= value <= high
        assert known or (value is None and check.get("or_none")), case["expected"]


def cpu(counter=None, rate=None, *, at=AT):
    found = {"time": rfc3339(at), "usageCoreNanoSeconds": counter, "usageNanoCores": rate}
    return {"cpu": {name: value for name, value in found.items() if value is not None}}


def use(*readings, capacity=CAPACITY):
    """Return the millicores after the last of the readings of one pod."""
    usage = Usage()
    usage.start(AT)
    return [usage.cpu(("pod",), reading, capacity) for reading in readings][-1]


def test_the_counter_by_its_own_time_comes_before_the_rate():
    first, second = cpu(10**12, 900_000_000), cpu(10**12 + 10**10, 900_000_000, at=AT + 20)
    assert use(first) == 900
    assert use(first, second) == 500


def test_a_rate_of_0_beside_a_counter_is_not_known():
    assert use(cpu(10**12, 0)) is None
    assert use(cpu(10**12, 0), cpu(10**12, 0, at=AT + 15)) == 0
    assert use(cpu(rate=0)) == 0, "where there is no counter it is all that is known"


def test_a_counter_that_stands_still_beside_a_rate_is_not_believed():
    assert use(cpu(0, 10**8), cpu(0, 10**8, at=AT + 15)) == 100


def test_two_readings_of_one_moment_are_one():
    first = cpu(10**12, 900_000_000)
    assert use(first, first) is None


@pytest.mark.parametrize("rate", [5_200_000_000_000_000_000, 2**64 - 1, -1, 3_000_000_000])
def test_a_rate_that_the_node_cannot_have_is_not_known(rate):
    assert use(cpu(0, rate)) is None
    assert use(cpu(rate=rate)) is None


def test_a_counter_that_jumps_is_no_spike():
    assert use(cpu(10**9), cpu(5 * 10**18, at=AT + 15)) is None


def test_a_little_above_the_capacity_is_the_capacity():
    assert use(cpu(10**9), cpu(32 * 10**9, at=AT + 15)) == CAPACITY


def test_a_pod_without_figures_of_its_own_has_those_of_its_containers():
    def pod(at, *counters):
        parts = [{"name": str(n)} | cpu(counter, at=at) for n, counter in enumerate(counters)]
        return {"cpu": {"time": rfc3339(at)}, "containers": parts}

    assert use(pod(AT, 0, 10**9), pod(AT + 10, 10**9, 3 * 10**9)) == 300


def test_a_pods_counter_that_stays_0_is_not_believed_beside_those_of_its_containers():
    def pod(at, counter):
        return cpu(0, 0, at=at) | {"containers": [{"name": "web"} | cpu(counter, 0, at=at)]}

    assert use(pod(AT, 0), pod(AT + 10, 10**9), pod(AT + 20, 3 * 10**9)) == 200


def test_one_container_that_cannot_be_spoils_no_sum():
    parts = [{"name": "new"} | cpu(0, 5 * 10**18), {"name": "old"} | cpu(10**9, 250_000_000)]
    assert use({"containers": parts}) == 250


def test_of_two_containers_of_one_name_the_one_that_started_last_counts():
    parts = [
        {"name": "web", "startTime": rfc3339(AT - 10)} | cpu(rate=3 * 10**8),
        {"name": "web", "startTime": rfc3339(AT - 999)} | cpu(rate=10**8),
    ]
    assert use({"containers": parts}) == 300


async def pod_values(kubernetes, collector):
    collected = await collector.collect(AT)
    [found] = [one for one in collected.samples if one.kind == "pod"]
    return dict(zip(FIELDS["pod"], found.values, strict=True))


async def test_an_entry_of_another_uid_alone_is_not_the_pods(kubernetes, collector):
    kubernetes.summaries["n1"]["pods"][0]["podRef"]["uid"] = "the one before"
    assert (await pod_values(kubernetes, collector))["mem_ws"] is None


async def test_of_two_entries_of_one_uid_the_one_that_started_last_counts(kubernetes, collector):
    [entry] = kubernetes.summaries["n1"]["pods"]
    before = entry | {"startTime": rfc3339(AT - 999), "memory": {"workingSetBytes": 1}}
    kubernetes.summaries["n1"]["pods"] = [entry, before]
    assert (await pod_values(kubernetes, collector))["mem_ws"] == 100 * 2**20


async def test_a_static_pod_is_known_to_its_kubelet_by_the_hash_of_its_file(kubernetes, collector):
    kubernetes.pods[0]["metadata"]["annotations"] = {
        "kubernetes.io/config.hash": "0ac0d7ec",
        "kubernetes.io/config.mirror": "0ac0d7ec",
    }
    kubernetes.summaries["n1"]["pods"][0]["podRef"]["uid"] = "0ac0d7ec"
    assert (await pod_values(kubernetes, collector))["mem_ws"] == 100 * 2**20


async def test_without_a_list_of_pods_the_newest_of_one_name_is_reported(kubernetes, collector):
    kubernetes.refuse["/api/v1/pods"] = 403
    [entry] = kubernetes.summaries["n1"]["pods"]
    before = entry | {"startTime": rfc3339(AT - 999), "memory": {"workingSetBytes": 1}}
    kubernetes.summaries["n2"]["pods"] = [before | {"podRef": entry["podRef"] | {"uid": "old"}}]
    assert (await pod_values(kubernetes, collector))["mem_ws"] == 100 * 2**20


async def test_without_a_list_of_pods_none_shows_its_nodes_traffic(kubernetes, collector):
    kubernetes.refuse["/api/v1/pods"] = 403
    kubernetes.nodes = real_answer("nodes_list")["items"]
    kubernetes.summaries = {"node-a": real_answer("kubelet_stats_summary")}
    await collector.collect(AT)
    later = json.loads(json.dumps(real_answer("kubelet_stats_summary")).replace("13:56:", "13:57:"))
    kubernetes.summaries = {"node-a": later}
    collected = await collector.collect(AT + 60)
    rx = {
        one.name: one.values[FIELDS["pod"].index("net_rx_bps")]
        for one in collected.samples
        if one.kind == "pod"
    }
    assert rx == {"logd-wpptt": None, "db-0": 0}


@pytest.mark.parametrize("memory", [0, 2**60, -1, None])
async def test_memory_that_cannot_be_is_not_known(kubernetes, collector, memory):
    answer = summary("n1", kubernetes.pods, at=AT)
    answer["node"]["memory"]["workingSetBytes"] = memory
    answer["pods"][0]["memory"]["workingSetBytes"] = memory
    answer["pods"][0]["containers"] = []
    kubernetes.summaries["n1"] = answer
    assert (await pod_values(kubernetes, collector))["mem_ws"] is None
    [found] = [
        dict(zip(FIELDS["node"], one.values, strict=True))
        for one in (await collector.collect(AT)).samples
        if (one.kind, one.name) == ("node", "n1")
    ]
    assert found["mem_ws"] is None
    assert found["fs_cap"] == 100 * GIB


async def test_a_node_that_started_in_the_future_has_no_uptime(kubernetes, collector):
    kubernetes.summaries["n1"]["node"]["startTime"] = rfc3339(AT + 60)
    kubernetes.summaries["n2"]["node"]["startTime"] = "0001-01-01T00:00:00Z"
    nodes = [one for one in (await collector.collect(AT)).samples if one.kind == "node"]
    assert [one.values[FIELDS["node"].index("uptime_s")] for one in nodes] == [None, None]


def interfaces(at, **counters):
    parts = [{"name": name, "rxBytes": count} for name, count in counters.items()]
    return {"time": rfc3339(at), "interfaces": parts}


@pytest.mark.parametrize(
    ("names", "rate"),
    [
        ({"eth0": 1000, "eth1": 2000}, 3000),
        ({"eth0": 1000, "eth1": 2000, "bond0": 3000, "cali1a2b": 500}, 3000),
        ({"eth0": 1000, "tunl0": 500}, 1000),
    ],
)
def test_the_card_called_eth0_is_one_of_all_that_a_node_or_pod_has(names, rate):
    usage = Usage()
    usage.start(AT)
    for at in (0, 15):
        counters = {name: one * at for name, one in names.items()}
        default = {"name": "eth0", "rxBytes": counters["eth0"]}
        found = usage.network(("n1",), interfaces(AT + at, **counters) | default)
    assert found["net_rx_bps"] == rate


def test_where_no_interface_is_listed_the_default_one_counts():
    usage = Usage()
    usage.start(AT)
    for at in (0, 15):
        default = {"time": rfc3339(AT + at), "name": "eth0", "rxBytes": 1000 * at}
        found = usage.network(("n1",), default)
    assert found["net_rx_bps"] == 1000


def test_a_sum_of_interfaces_of_which_one_was_reset_is_not_known():
    usage = Usage()
    usage.start(AT)
    readings = [(10**6, 10**6), (10**6 + 15_000, 10**6 + 30_000), (10**6 + 30_000, 0),
                (10**6 + 45_000, 15_000)]  # fmt: skip
    found = [
        usage.network(("n1",), interfaces(AT + 15 * at, ens3=ens3, ens4=ens4))["net_rx_bps"]
        for at, (ens3, ens4) in enumerate(readings)
    ]
    assert found == [None, 3000, None, 2000]


def test_counters_that_were_not_read_for_long_are_forgotten():
    usage = Usage()
    for at in range(0, 3600, 15):
        usage.start(AT + at)
        usage.cpu(("pod", str(at)), cpu(10**9), CAPACITY)
    assert len(usage._rates._last) < 10


async def test_an_answer_of_another_node_is_none_of_this_one(kubernetes, collector):
    kubernetes.summaries["n2"] = kubernetes.summaries["n1"]
    collected = await collector.collect(AT)
    assert collected.problems == {
        "n2": "its kubelet gives no numbers: node n1 answers at its address"
    }
    memory = {
        one.name: one.values[FIELDS["node"].index("mem_ws")]
        for one in collected.samples
        if one.kind == "node"
    }
    assert memory == {"n1": 5 * GIB, "n2": None}


async def test_without_a_list_of_pods_a_silent_node_does_not_say_that_it_has_none(
    kubernetes, collector
):
    kubernetes.refuse["/api/v1/pods"] = 403
    kubernetes.summaries["n2"] = None
    collected = await collector.collect(AT)
    pods = {
        one.name: one.values[FIELDS["node"].index("pods")]
        for one in collected.samples
        if one.kind == "node"
    }
    assert pods == {"n1": 1, "n2": None}


async def test_a_node_that_says_it_has_nothing_has_no_known_capacity(kubernetes, collector):
    kubernetes.nodes[0]["status"]["capacity"] = {"cpu": "0", "memory": "0"}
    nodes = [one for one in (await collector.collect(AT)).samples if one.kind == "node"]
    values = dict(zip(FIELDS["node"], nodes[0].values, strict=True))
    assert (values["cpu_cap_mc"], values["cpu_mc"]) == (None, 1250)
    assert values["mem_ws"] == 5 * GIB
