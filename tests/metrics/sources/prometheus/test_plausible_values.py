"""Inputs from other people's machines, as a real Prometheus answers them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.plausible import plausible
from metrics.sources.prometheus.source import PrometheusSource
from opscenter.core.errors import BadResponseError
from tests.metrics.sources import field
from tests.metrics.sources.hostile import Answer, hostile_server
from tests.servers.client import DirectClient
from tests.servers.prometheus import Series, prometheus

pytestmark = pytest.mark.usefixtures("starts_servers")
END = int(time.time()) // 60 * 60 - 60
BEGIN, START = END - 900, END - 120
SCRAPE = 15


def one(name: str, labels: Mapping[str, str], value: float, **more: float) -> dict[str, Any]:
    return {"name": name, "labels": labels, "value": value, **more}


def counter(name: str, labels: Mapping[str, str], per_second: float) -> dict[str, Any]:
    return {"name": name, "labels": labels, "from": 1000, "per_second": per_second}


def series_of(entry: Mapping[str, Any]) -> Series:
    """Return the samples of one series of an input; ``until`` seconds before the end."""
    times = range(BEGIN, END + 1 - int(entry.get("until", 0)), SCRAPE)
    rate, first = entry.get("per_second", 0), entry.get("from", entry.get("value"))
    return (
        entry["name"],
        dict(entry["labels"]),
        [(float(t), first + rate * (t - BEGIN)) for t in times],
    )


async def fetch(port: int) -> SourceAnswer:
    async with DirectClient(port) as client:
        with ParseSlot("live") as slot:
            answer = await PrometheusSource().fetch(client, START, END, now=END, slot=slot)
    return plausible(answer)


async def answered(tmp_path, entries: Sequence[Mapping[str, Any]]) -> SourceAnswer:
    with prometheus(tmp_path, series=map(series_of, entries)) as port:
        return await fetch(port)


@asynccontextmanager
async def between(port: int, lose: Sequence[str], **more: object) -> AsyncIterator[int]:
    """Serve a Prometheus' answers without some instances, and with more keys."""

    async def respond(request: web.Request) -> Answer:
        form = dict(await request.post())
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, f"http://127.0.0.1:{port}{request.path_qs}", data=form or None
            ) as got,
        ):
            status, kind, body = got.status, got.content_type, await got.read()
        if request.path.startswith("/api/v1/query"):
            answer = orjson.loads(body)
            result = answer["data"]["result"]
            answer["data"]["result"] = [
                entry for entry in result if entry["metric"].get("instance") not in lose
            ]
            body = orjson.dumps(answer | more)
        return status, kind, body

    async with hostile_server(respond) as proxy:
        yield proxy


@pytest.mark.parametrize(
    "name", ["host-network-without-its-label", "address-of-a-dead-node-used-again"]
)
async def test_an_input_from_the_field_gives_its_right_values(name, tmp_path):
    wanted = field.load(name)
    field.check(await answered(tmp_path, wanted["input"]["series"]), wanted)


async def test_a_node_whose_address_another_one_has_is_named_and_still_listed(tmp_path):
    wanted = field.load("address-of-a-dead-node-used-again")
    answer = await answered(tmp_path, wanted["input"]["series"])
    assert any(note.endswith("their values: old") for note in answer.notes)
    assert answer.lists_nodes
    assert field.values(answer, "node", "", "new", "ready")[-1] == 1


async def test_an_exporter_at_an_address_that_was_given_away_is_the_ready_nodes(tmp_path):
    """Node-exporter's series name no node: only the address tells whose they are."""
    wanted = field.load("address-of-a-dead-node-used-again")
    exporter = {"job": "node", "instance": "10.0.0.5:9100"}
    disk = {**exporter, "device": "/dev/sda", "mountpoint": "/", "fstype": "ext4"}
    answer = await answered(tmp_path, [
        *wanted["input"]["series"],
        one("node_load1", exporter, 1.5),
        one("node_filesystem_size_bytes", disk, 1000),
        one("node_filesystem_free_bytes", disk, 400),
        one("node_filesystem_avail_bytes", disk, 400),
    ])  # fmt: skip
    assert field.values(answer, "node", "", "new", "load1_m")[-1] == 1500
    assert field.values(answer, "node", "", "new", "fs_used")[-1] == 600
    assert field.values(answer, "node", "", "old", "load1_m")[-1] is None
    assert field.values(answer, "filesystem", "old", "/", "used") == []


@pytest.mark.parametrize(
    "more",
    [
        {"isPartial": True},
        {"warnings": "a store is away"},
        {"warnings": [None]},
        {"error": "context deadline exceeded", "errorType": "timeout"},
        {"warnings": ["PromQL info: x", "rpc error:\n\u202e unavailable"]},
    ],
)
async def test_a_part_is_never_taken_for_the_whole(more, tmp_path):
    wanted = field.load("partial-answer-of-thanos")
    with prometheus(tmp_path, series=map(series_of, wanted["input"]["series"])) as port:
        async with between(port, wanted["input"]["between"]["lose"], **more) as proxy:
            with pytest.raises(BadResponseError) as refused:
                await fetch(proxy)
            assert refused.value.problem == "cut_off"
            assert str(refused.value).isprintable()
            key = SeriesKey("node", "", "10.0.0.5:9100")
            async with DirectClient(proxy) as client:
                with pytest.raises(BadResponseError, match="partial"):
                    await PrometheusSource().probe(client, now=END)
                with pytest.raises(BadResponseError, match="partial"):
                    await PrometheusSource().raw(client, key, "mem_ws", START, END, now=END)


async def test_a_partial_answer_is_refused_with_the_servers_own_words(tmp_path):
    wanted = field.load("partial-answer-of-thanos")
    with prometheus(tmp_path, series=map(series_of, wanted["input"]["series"])) as port:
        how = wanted["input"]["between"]
        async with between(port, how["lose"], warnings=how["warnings"]) as proxy:
            with pytest.raises(BadResponseError, match=r"10\.2\.0\.3:10901.*Unavailable"):
                await fetch(proxy)


async def test_a_remark_on_the_query_leaves_the_answer_whole(tmp_path):
    wanted = field.load("warnings-that-are-none")
    with prometheus(tmp_path, series=map(series_of, wanted["input"]["series"])) as port:
        async with between(port, [], **wanted["input"]["between"]) as proxy:
            field.check(await fetch(proxy), wanted)


def machine(name: str, *, up: float = 1, until: int = 0) -> list[dict[str, Any]]:
    exporter = {"job": "node", "instance": f"{name}:9100"}
    found = [
        {**counter("node_cpu_seconds_total", {**exporter, "cpu": "0", "mode": mode}, 0.5),
         "until": until}
        for mode in ("idle", "user")
    ] + [one("node_uname_info", {**exporter, "nodename": name}, 1, until=until)]  # fmt: skip
    return [*found, one("up", exporter, up)]


async def test_a_machine_that_died_is_listed_as_not_ready_and_its_rates_are_no_presence(tmp_path):
    answer = await answered(tmp_path, [
        *machine("a"), *machine("b", up=0, until=90),
        # Of the same job, but another exporter: none of the machines.
        one("up", {"job": "node", "instance": "a:9256"}, 0),
        one("up", {"job": "web", "instance": "c:9100"}, 0),
    ])  # fmt: skip
    nodes = {row.key.name for row in answer.rows if row.key.kind == "node"}
    assert nodes == {"a:9100", "b:9100"}
    assert field.values(answer, "node", "", "a:9100", "ready") == [1, 1]
    assert field.values(answer, "node", "", "b:9100", "ready") == [0, 0]
    assert field.values(answer, "node", "", "b:9100", "cpu_mc") == [None, None]
    assert not answer.lists_nodes


async def test_without_up_it_is_not_known_whether_a_machine_is_ready(tmp_path):
    answer = await answered(tmp_path, [s for s in machine("a") if s["name"] != "up"])
    assert field.values(answer, "node", "", "a:9100", "cpu_mc") == [500, 500]
    assert field.values(answer, "node", "", "a:9100", "ready") == [None, None]


def kubernetes(**up: float) -> list[dict[str, Any]]:
    """Return two kubelets, without kube-state-metrics for the last ten minutes."""
    found = []
    for node, value in up.items():
        kubelet = {"job": "kubelet", "instance": f"{node}:10250", "node": node}
        state = {"job": "ksm", "instance": "10.1.0.9:8080", "node": node}
        pod = {"namespace": "shop", "pod": f"web-{node}", "container": "web", "id": "/x"}
        found += [
            one("up", kubelet, value),
            one("machine_cpu_cores", kubelet, 2),
            one("container_memory_working_set_bytes", {**kubelet, "id": "/"}, 5e9),
            one("container_memory_working_set_bytes", {**kubelet, **pod}, 1e6),
            one("kube_node_info", state, 1, until=600),
            one("kube_node_status_condition",
                {**state, "condition": "Ready", "status": "true"}, 1, until=600),
        ]  # fmt: skip
    return found


async def test_while_kube_state_metrics_is_away_no_node_is_ready_and_a_silent_one_is_not(tmp_path):
    answer = await answered(tmp_path, kubernetes(a=1, b=0))
    assert field.values(answer, "node", "", "a", "mem_ws")[-1] == 5_000_000_000
    assert field.values(answer, "node", "", "a", "ready") == [None, None]
    assert field.values(answer, "node", "", "b", "ready") == [0, 0]
    assert any("kube-state-metrics is away" in note for note in answer.notes)
    assert answer.collector is not None
    assert set(answer.collector.problems) == {"kube-state-metrics"}
    assert not answer.lists_nodes


async def test_one_bad_part_does_not_spoil_the_sum_of_the_others(tmp_path):
    kubelet = {"job": "kubelet", "instance": "10.0.0.5:10250", "node": "n1"}
    exporter = {"job": "node", "instance": "10.0.0.5:9100"}
    pod = {**kubelet, "namespace": "shop", "pod": "web-0", "id": "/x"}
    disks = [{**exporter, "device": f"/dev/{d}", "mountpoint": f"/{d}", "fstype": "ext4"}
             for d in ("sda", "sdb")]  # fmt: skip
    answer = await answered(tmp_path, [
        one("kube_node_info", {"job": "ksm", "node": "n1", "internal_ip": "10.0.0.5"}, 1),
        one("kube_pod_info", {"job": "ksm", "node": "n1", "namespace": "shop", "pod": "web-0"}, 1),
        # An unsigned number that fell below zero (moby/moby#10824 and many others).
        one("container_memory_working_set_bytes", {**pod, "container": "a"}, 2.0**64 - 4096),
        one("container_memory_working_set_bytes", {**pod, "container": "b"}, 1_000_000),
        one("container_memory_rss", {**pod, "container": "b"}, float("inf")),
        counter("container_network_receive_bytes_total", {**pod, "interface": "eth0"}, 1e17),
        counter("container_network_receive_bytes_total", {**pod, "interface": "eth1"}, 5000),
        counter("node_cpu_seconds_total", {**exporter, "cpu": "0", "mode": "user"}, 0.25),
        counter("node_cpu_seconds_total", {**exporter, "cpu": "0", "mode": "steal"}, 80_000),
        counter("node_cpu_seconds_total", {**exporter, "cpu": "0", "mode": "irq"}, -50),
        counter("node_cpu_seconds_total", {**exporter, "cpu": "0", "mode": "idle"}, 0.75),
        *(one("node_filesystem_size_bytes", disk, 1000) for disk in disks),
        one("node_filesystem_free_bytes", disks[0], 400),
        one("node_filesystem_avail_bytes", disks[0], 400),
        one("node_filesystem_free_bytes", disks[1], 224 << 40),
        one("node_filesystem_avail_bytes", disks[1], 224 << 40),
    ])  # fmt: skip
    newest = lambda *place: field.values(answer, *place)[-1]  # noqa: E731
    assert newest("pod", "shop", "web-0", "mem_ws") == 1_000_000
    assert newest("pod", "shop", "web-0", "mem_rss") is None
    assert newest("pod", "shop", "web-0", "net_rx_bps") == 5000
    assert newest("node", "", "n1", "cpu_mc") == 250
    assert newest("node", "", "n1", "fs_used") == 600
    assert newest("node", "", "n1", "fs_cap") == 1000
    assert newest("filesystem", "n1", "/sdb", "used") is None
    assert answer.refused["filesystem used below zero"] == 2


async def test_without_kube_state_metrics_a_pod_with_its_nodes_interfaces_has_no_traffic_of_its_own(
    tmp_path,
):
    kubelet = {"job": "kubelet", "instance": "10.0.0.5:10250", "node": "n1"}
    proxy, web = ({**kubelet, "namespace": "shop", "pod": name} for name in ("proxy", "web"))
    traffic = "container_network_receive_bytes_total"
    answer = await answered(tmp_path, [
        one("machine_cpu_cores", kubelet, 2),
        *(one("container_memory_working_set_bytes", {**pod, "container": "c"}, 1e6)
          for pod in (proxy, web)),
        counter(traffic, {**proxy, "interface": "eth0"}, 9e6),
        counter(traffic, {**proxy, "interface": "cali12ab34cd56e"}, 5),
        counter(traffic, {**web, "interface": "eth0"}, 5000),
        counter(traffic, {**web, "interface": "tunl0"}, 0),
    ])  # fmt: skip
    assert field.values(answer, "pod", "shop", "proxy", "net_rx_bps") == [None, None]
    assert field.values(answer, "pod", "shop", "web", "net_rx_bps") == [5000, 5000]


async def test_restarts_of_sidecars_count_as_kubectl_counts_them(tmp_path):
    pod = {"job": "ksm", "namespace": "shop", "pod": "web-0"}
    answer = await answered(tmp_path, [
        one("kube_node_info", {"job": "ksm", "node": "n1", "internal_ip": "10.0.0.5"}, 1),
        one("kube_pod_info", {**pod, "node": "n1"}, 1),
        one("kube_pod_container_status_restarts_total", {**pod, "container": "web"}, 1),
        *(one("kube_pod_init_container_status_restarts_total", {**pod, "container": name}, count)
          for name, count in (("proxy", 7), ("migrate", 3))),
        one("kube_pod_init_container_info",
            {**pod, "container": "proxy", "restart_policy": "Always"}, 1),
        one("kube_pod_init_container_info", {**pod, "container": "migrate"}, 1),
    ])  # fmt: skip
    assert field.values(answer, "pod", "shop", "web-0", "restarts") == [8, 8]


@pytest.mark.parametrize(("host", "value"), [("10.0.0.5", None), ("proxy.example", 5368709120)])
async def test_one_address_under_two_names_is_one_machine_unless_it_is_a_proxys(
    host, value, tmp_path
):
    """As kube-state-metrics 1 lists nodes: without their addresses."""
    wanted = field.load("address-of-a-dead-node-used-again")
    entries = wanted["input"]["series"]
    for entry in entries:
        entry["labels"].pop("internal_ip", None)
        if entry["labels"]["job"] == "kubelet":
            entry["labels"]["instance"] = f"{host}:10250"
    answer = await answered(tmp_path, entries)
    assert field.values(answer, "node", "", "old", "mem_ws")[-1] == value
    assert field.values(answer, "node", "", "new", "mem_ws")[-1] == 5368709120


async def test_a_capacity_of_zero_leaves_room_for_the_one_that_another_exporter_knows(tmp_path):
    kubelet = {"job": "kubelet", "instance": "10.0.0.5:10250", "node": "n1"}
    state = {"job": "ksm", "node": "n1", "resource": "cpu"}
    answer = await answered(tmp_path, [
        one("kube_node_info", {"job": "ksm", "node": "n1", "internal_ip": "10.0.0.5"}, 1),
        one("kube_node_status_capacity", state, 0),
        one("machine_cpu_cores", kubelet, 2),
    ])  # fmt: skip
    assert field.values(answer, "node", "", "n1", "cpu_cap_mc") == [2000, 2000]
    assert answer.refused == {"node cpu_cap_mc 0, which cannot be": 2}
