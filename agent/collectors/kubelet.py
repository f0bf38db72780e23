"""A Kubernetes cluster: its nodes and pods from the API server, their use from each kubelet.

The service account needs ``list`` on nodes and pods and ``get`` on ``nodes/proxy``. Each kubelet is
queried through the API server (``/api/v1/nodes/<node>/proxy/stats/summary``), so that one agent
serves a whole cluster and needs no route to the nodes. A node whose kubelet does not answer keeps
its row, with the API server's facts and without use.

Source of the fields: Kubernetes' ``stats/v1alpha1`` types; all of them are optional.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from agent.collectors.base import Collected, CollectorError, Rates, is_virtual_interface
from agent.collectors.kubeapi import KubeAccess, KubeApi
from agent.collectors.kubeobjects import (
    ENDED_PHASES,
    KubeNode,
    KubePod,
    child,
    children,
    number,
    parse_node,
    parse_pod,
    text,
    timestamp,
    total,
)
from agent.samples import Sample, make_sample

LIST_SECONDS = 6.0
SUMMARY_SECONDS = 6.0
"""Both together stay below the sampling interval."""
MAX_CONCURRENT = 64
MAX_NODES = 2_000
MAX_PODS = 10_000

Summaries = dict[str, dict[str, Any]]


class KubeletCollector:
    """Collects the cluster that the agent runs in.

    Args:
        access: address and credentials of the API server; None for those that every pod has.
        list_seconds: seconds that the API server may take to list all nodes and pods.
        summary_seconds: seconds that all kubelets together may take.
    """

    name = "kubelet"

    def __init__(
        self,
        access: KubeAccess | None = None,
        *,
        list_seconds: float = LIST_SECONDS,
        summary_seconds: float = SUMMARY_SECONDS,
    ) -> None:
        self._api = None if access is None else KubeApi(access)
        self._list_seconds = list_seconds
        self._summary_seconds = summary_seconds
        self._rates = Rates()
        self._used_keys: set[tuple[str, ...]] = set()
        self._silent: set[str] = set()

    async def close(self) -> None:
        """Close all connections."""
        if self._api is not None:
            await self._api.close()

    async def collect(self, now: float) -> Collected:
        """Return the cluster's nodes, their filesystems, and its pods.

        Raises:
            CollectorError: the nodes cannot be listed; nothing is known then.
        """
        nodes, pods, problems = await self._lists()
        answers = await self._summaries(node.name for node in nodes)
        summaries = {name: found for name, found in answers.items() if isinstance(found, dict)}
        problems |= {
            name: f"its kubelet does not answer: {found}"
            for name, found in answers.items()
            if isinstance(found, str)
        }
        if pods is None:
            pods = _pods_of(summaries)
        counts: dict[str, int] = {}
        for pod in pods:
            if pod.phase not in ENDED_PHASES:
                counts[pod.node] = counts.get(pod.node, 0) + 1
        samples: list[Sample] = []
        for node in nodes:
            summary = summaries.get(node.name, {})
            samples.append(self._node(node, summary, counts.get(node.name, 0), now))
            samples.extend(_filesystems(node.name, summary))
        usage = {
            (text(stats, "podRef", "namespace"), text(stats, "podRef", "name"), node): stats
            for node, summary in summaries.items()
            for stats in children(summary, "pods")
        }
        # Jobs that are done stay listed until someone deletes them; they use nothing.
        shown = [pod for pod in pods if pod.phase != "Succeeded"]
        if len(shown) > MAX_PODS:
            problems["number of pods"] = f"{len(shown)}; the first {MAX_PODS} are reported"
        samples.extend(
            self._pod(pod, usage.get((pod.ns, pod.name, pod.node), {}), now)
            for pod in sorted(shown, key=lambda p: (p.ns, p.name))[:MAX_PODS]
        )
        if len(summaries) == len(nodes):
            self._rates.keep_only(self._used_keys)
        return Collected(samples, problems)

    def _ready_api(self) -> KubeApi:
        if self._api is None:
            access = KubeAccess.in_cluster()
            if access is None:
                raise CollectorError("this is no Kubernetes pod: there is no service account")
            self._api = KubeApi(access)
        return self._api

    async def _lists(self) -> tuple[list[KubeNode], list[KubePod] | None, dict[str, str]]:
        """Return nodes, pods (None if they cannot be listed) and problems."""
        self._used_keys = set()
        raw_nodes, raw_pods = await asyncio.gather(
            self._list("/api/v1/nodes"), self._list("/api/v1/pods")
        )
        if isinstance(raw_nodes, str):
            raise CollectorError(raw_nodes)
        nodes = [node for item in raw_nodes if (node := parse_node(item)) is not None]
        if not nodes:
            raise CollectorError("the API server lists no nodes")
        problems = {}
        if nodes[MAX_NODES:]:
            problems["number of nodes"] = f"{len(nodes)}; {MAX_NODES} are reported"
        if isinstance(raw_pods, str):
            return nodes[:MAX_NODES], None, {**problems, "list of pods": raw_pods}
        pods = [pod for item in raw_pods if (pod := parse_pod(item)) is not None]
        return nodes[:MAX_NODES], pods, problems

    async def _list(self, path: str) -> list[dict[str, Any]] | str:
        """Return the objects, or why there are none."""
        try:
            return await self._ready_api().list_all(path, deadline_seconds=self._list_seconds)
        except CollectorError as exc:
            return str(exc)
        except TimeoutError:
            return f"{path}: not listed within {self._list_seconds:g} s"

    async def _summaries(self, nodes: Iterable[str]) -> dict[str, dict[str, Any] | str]:
        """Return each node's summary, or why there is none, all within one deadline."""
        gate = asyncio.Semaphore(MAX_CONCURRENT)
        found: dict[str, dict[str, Any] | str] = {}

        async def ask(node: str) -> None:
            path = f"/api/v1/nodes/{quote(node, safe='')}/proxy/stats/summary"
            async with gate:
                try:
                    answer = await self._ready_api().get(
                        path, deadline_seconds=self._summary_seconds
                    )
                except CollectorError as exc:
                    found[node] = str(exc)
                    return
            found[node] = answer if isinstance(answer, dict) else "the summary is no object"

        # Those that did not answer last time come last: they must not delay the others.
        names = sorted(nodes, key=lambda node: (node in self._silent, node))
        tasks = [asyncio.create_task(ask(node)) for node in names]
        try:
            await asyncio.wait(tasks, timeout=self._summary_seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._silent = {node for node in names if not isinstance(found.get(node), dict)}
        late = f"no answer within {self._summary_seconds:g} s"
        return {node: found.get(node, late) for node in names}

    def _node(self, node: KubeNode, summary: Mapping[str, Any], pods: int, now: float) -> Sample:
        stats = child(summary, "node")
        key = ("node", node.name)
        used = number(stats, "memory", "workingSetBytes")
        available = number(stats, "memory", "availableBytes")
        started = timestamp(child(stats, "startTime"))
        mem_cap = node.mem_cap
        if mem_cap is None and used is not None and available is not None:
            mem_cap = used + available
        values: dict[str, float | None] = {
            "cpu_mc": self._cpu(key, stats, now),
            "cpu_cap_mc": node.cpu_cap_mc,
            "mem_ws": used,
            "mem_cap": mem_cap,
            **_disk_totals(summary),
            **self._network(key, child(stats, "network"), now),
            "uptime_s": None if started is None else max(0.0, now - started),
            "pods": pods,
            "ready": node.ready,
        }
        return make_sample("node", node.name, values, attrs=node.attrs)

    def _pod(self, pod: KubePod, stats: Mapping[str, Any], now: float) -> Sample:
        # The id is part of the key: a pod recreated under its name begins at zero.
        key = ("pod", pod.ns, pod.name, pod.uid)
        containers = children(stats, "containers")
        values: dict[str, float | None] = {
            "cpu_mc": self._cpu(key, stats, now),
            "mem_ws": _of_pod(stats, containers, "workingSetBytes"),
            "mem_rss": _of_pod(stats, containers, "rssBytes"),
            "fs_used": _pod_disk(stats, containers),
            "restarts": pod.restarts,
        }
        # A pod on the host's network would show the node's traffic as its own.
        if not pod.host_network:
            values |= self._network(key, child(stats, "network"), now)
        return make_sample("pod", pod.name, values, ns=pod.ns, node=pod.node, attrs=pod.attrs)

    def _cpu(self, key: tuple[str, ...], stats: Any, now: float) -> float | None:
        """Return millicores: the kubelet's own rate, or from its counter, or of the containers."""
        parts = [stats] if child(stats, "cpu") is not None else children(stats, "containers")
        found = []
        for part in parts:
            rate = number(part, "cpu", "usageNanoCores")
            counter = number(part, "cpu", "usageCoreNanoSeconds")
            at = timestamp(child(part, "cpu", "time")) or now
            counted = self._rate((*key, "cpu", text(part, "name")), counter, at)
            found.append(counted if rate is None else rate)
        value = total(found)
        return None if value is None else value / 1e6

    def _network(self, key: tuple[str, ...], network: Any, now: float) -> dict[str, float | None]:
        """Return both rates, of the default interface or of all real ones."""
        at = timestamp(child(network, "time")) or now
        parts = [network]
        if number(network, "rxBytes") is None:
            parts = [
                interface
                for interface in children(network, "interfaces")
                if not is_virtual_interface(text(interface, "name"))
            ]
        return {
            field: total(
                self._rate((*key, counter, text(part, "name")), number(part, counter), at)
                for part in parts
            )
            for field, counter in (("net_rx_bps", "rxBytes"), ("net_tx_bps", "txBytes"))
        }

    def _rate(self, key: tuple[str, ...], value: float | None, at: float) -> float | None:
        self._used_keys.add(key)
        return self._rates.rate(key, value, at)


def _pods_of(summaries: Summaries) -> list[KubePod]:
    """Return the pods that the kubelets know, for when the API server does not list them."""
    return [
        KubePod(
            ns=text(stats, "podRef", "namespace"),
            name=text(stats, "podRef", "name"),
            uid=text(stats, "podRef", "uid"),
            node=node,
            phase="",
            host_network=False,
            restarts=None,
            attrs={},
        )
        for node, summary in summaries.items()
        for stats in children(summary, "pods")
        if text(stats, "podRef", "name")
    ]


def _filesystems(node: str, summary: Mapping[str, Any]) -> list[Sample]:
    """Return the node's own filesystem and the one for images, if they are reported."""
    samples = []
    for name, stats in _disks(summary).items():
        attrs = {"shares": "nodefs"} if name == "imagefs" and _is_one_disk(summary) else {}
        values = {
            "used": number(stats, "usedBytes"),
            "cap": number(stats, "capacityBytes"),
            "inodes_total": number(stats, "inodes"),
            "inodes_free": number(stats, "inodesFree"),
        }
        samples.append(make_sample("filesystem", name, values, ns=node, attrs=attrs))
    return samples


def _disks(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = {
        "nodefs": child(summary, "node", "fs"),
        "imagefs": child(summary, "node", "runtime", "imageFs"),
    }
    return {name: stats for name, stats in found.items() if isinstance(stats, Mapping) and stats}


def _is_one_disk(summary: Mapping[str, Any]) -> bool:
    """Return whether images are on the node's own filesystem; the numbers are then the same."""
    disks = _disks(summary)
    if len(disks) < 2:
        return False
    same = ("capacityBytes", "inodes", "availableBytes")
    nodefs, imagefs = disks["nodefs"], disks["imagefs"]
    return all(number(nodefs, name) == number(imagefs, name) for name in same)


def _disk_totals(summary: Mapping[str, Any]) -> dict[str, float | None]:
    disks = _disks(summary)
    if _is_one_disk(summary):
        del disks["imagefs"]
    return {
        field: total(number(stats, name) for stats in disks.values())
        for field, name in (
            ("fs_used", "usedBytes"),
            ("fs_cap", "capacityBytes"),
            ("inodes_total", "inodes"),
            ("inodes_free", "inodesFree"),
        )
    }


def _of_pod(stats: Mapping[str, Any], containers: list[dict[str, Any]], name: str) -> float | None:
    """Return a memory figure of the pod; kubelets before 1.9 report it by container only."""
    found = number(stats, "memory", name)
    if found is not None:
        return found
    return total(number(container, "memory", name) for container in containers)


def _pod_disk(stats: Mapping[str, Any], containers: list[dict[str, Any]]) -> float | None:
    found = number(stats, "ephemeral-storage", "usedBytes")
    if found is not None:
        return found
    return total(
        number(container, part, "usedBytes")
        for container in containers
        for part in ("rootfs", "logs")
    )
